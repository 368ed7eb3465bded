"""Taking webhooks in: is it Meta's, whose is it, and is it on disk? Only then is it acknowledged."""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
import structlog
from prometheus_client import Counter

from relay.inbound.batcher import Batcher, NotStoredError
from relay.inbound.raw_store import RawStore, RawWebhook
from relay.inbound.split import is_json
from relay.kit.problem import RETRY_AFTER_SECONDS, ProblemError
from relay.meta import signature
from relay.numbers.endpoints import WebhookEndpoints
from shared.wire.problem import Code

log = structlog.get_logger(__name__)

ACCOUNTS_MAX: Final = 50
"""Accounts looked up for one body that the shared app did not sign; Meta sends far fewer at once."""

_received = Counter("webhooks_received_total", "Webhook deliveries by outcome.", ["outcome"])
_accepted = _received.labels("accepted")
Outcome = Literal["bad_signature", "not_json", "too_large", "unavailable"]


class _Entry(msgspec.Struct):
    id: str | int = ""


class _Envelope(msgspec.Struct):
    entry: list[_Entry] = []


_envelope = msgspec.json.Decoder(_Envelope)


class Ingest:
    """One per process.

    `app_secrets` are those of the shared Meta app, newest first.
    """

    def __init__(
        self,
        store: RawStore,
        endpoints: WebhookEndpoints,
        *,
        app_secrets: Sequence[str],
        verify_token: str,
    ) -> None:
        self._endpoints = endpoints
        self._app_secrets = app_secrets
        self._verify_token = verify_token
        self._batcher = Batcher(store.store)

    def start(self) -> None:
        """Begin to take webhooks."""
        self._batcher.start()

    async def stop(self) -> None:
        """Take no more, and end once everything taken is on disk or refused."""
        await self._batcher.stop()

    async def verify(self, query: Mapping[str, str], endpoint_key: str | None) -> str:
        """The challenge to echo when Meta checks an address. Raises ProblemError (403) for a wrong token."""
        expected = self._verify_token
        if endpoint_key is not None:
            endpoint = await self._endpoints.find(endpoint_key)
            expected = endpoint.verify_token if endpoint is not None else ""
        shown = query.get("hub.verify_token", "")
        matches = expected and hmac.compare_digest(shown.encode(), expected.encode())
        if query.get("hub.mode") != "subscribe" or not matches:
            raise ProblemError(Code.FORBIDDEN, "The verify token is not the one of this address.")
        return query.get("hub.challenge", "")

    async def receive(self, body: bytes, header: str | None, endpoint_key: str | None) -> None:
        """Store a signed body; returns once it is on disk.

        Raises ProblemError: `bad_signature`, `not_json` (the body is kept), `unavailable` (Meta tries again).
        """
        scope = await self._authenticate(body, header, endpoint_key)
        signed = {"signature": header or ""}
        if not is_json(body):
            await self._put(RawWebhook(body, scope, signed, "parked", "the body is not JSON"))
            raise refused("not_json", Code.NOT_JSON, "The body was kept, but it cannot be read.")
        await self._put(RawWebhook(body, scope, signed))
        _accepted.inc()

    async def _put(self, webhook: RawWebhook) -> None:
        try:
            await self._batcher.put(webhook)
        except NotStoredError as error:
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            raise refused("unavailable", Code.UNAVAILABLE, f"Not stored: {error}.", headers) from error

    async def _authenticate(self, body: bytes, header: str | None, endpoint_key: str | None) -> UUID | None:
        """The tenant whose own Meta app signed the body, None for the shared app."""
        if endpoint_key is None:
            if signature.verify(self._app_secrets, body, header):
                return None
            tenant_id = await self._tenant_that_signed(body, header)
            if tenant_id is not None:
                return tenant_id
        else:
            endpoint = await self._endpoints.find(endpoint_key)
            if endpoint is not None and endpoint.app_secret is not None:
                if signature.verify([endpoint.app_secret], body, header):
                    return endpoint.tenant_id
            elif endpoint is not None and signature.verify(self._app_secrets, body, header):
                return endpoint.tenant_id
        log.warning("webhook with a wrong signature", endpoint_key=endpoint_key, bytes=len(body))
        raise refused("bad_signature", Code.BAD_SIGNATURE, "X-Hub-Signature-256 does not fit the body.")

    async def _tenant_that_signed(self, body: bytes, header: str | None) -> UUID | None:
        """The tenant that owns every account named in the body and whose app signed it."""
        if header is None:
            return None
        try:
            accounts = {str(entry.id) for entry in _envelope.decode(body).entry}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if not 0 < len(accounts) <= ACCOUNTS_MAX:
            return None
        app_secrets: set[str] = set()
        tenants: set[UUID] = set()
        for waba_id in accounts:
            endpoint = await self._endpoints.find_waba(waba_id)
            if endpoint is None or endpoint.app_secret is None:
                return None
            tenants.add(endpoint.tenant_id)
            app_secrets.add(endpoint.app_secret)
        if len(tenants) == 1 and signature.verify(app_secrets, body, header):
            return tenants.pop()
        return None


def refused(
    outcome: Outcome, code: Code, detail: str, headers: Mapping[str, Any] | None = None
) -> ProblemError:
    """The answer to a delivery that was not taken, counted."""
    _received.labels(outcome).inc()
    return ProblemError(code, detail, headers=headers)
