"""The client of Meta's Graph API.

Sending has no idempotency key at Meta, so the result of a send says exactly what is known: accepted,
refused, certainly not sent, or unknown. Nothing is retried here, and no token is ever logged or kept.
"""

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import msgspec

from relay.meta.error_table import Meaning
from relay.meta.errors import classify

_TIMEOUTS: Final = httpx.Timeout(connect=5.0, pool=5.0, write=10.0, read=15.0)
# A reused connection that the other side has just closed makes a send ambiguous, so ours expire first.
_KEEPALIVE_SECONDS: Final = 10.0
_POOLS: Final = 8
_DETAILS_MAX_CHARS: Final = 500


@dataclass(frozen=True)
class Accepted:
    """Meta took the message. `wa_id` and `user_id` name the recipient; either may be missing."""

    wamid: str
    wa_id: str | None = None
    user_id: str | None = None


@dataclass(frozen=True)
class Refused:
    """Meta, or something in front of it, answered with an error.

    `code` is None where the answer was not in Meta's envelope. `retry_after`: seconds, where told.
    """

    http_status: int
    code: int | None = None
    subcode: int | None = None
    details: str = ""
    is_transient: bool = False
    retry_after: float | None = None
    trace_id: str = ""

    @property
    def meaning(self) -> Meaning:
        """What the error table says of it."""
        return classify(
            self.code, subcode=self.subcode, http_status=self.http_status, is_transient=self.is_transient
        )


@dataclass(frozen=True)
class NotSent:
    """No byte of the request reached Meta."""

    reason: str


@dataclass(frozen=True)
class Unknown:
    """The request may have been executed: its answer was lost, late or unreadable."""

    reason: str


SendResult = Accepted | Refused | NotSent | Unknown


@dataclass(frozen=True)
class Credentials:
    """What a call on behalf of a number needs. The token does not show when this is printed."""

    phone_number_id: str
    access_token: str = field(repr=False)


class _Pools(httpx.AsyncBaseTransport):
    """Several small pools of connections, in turn.

    A pool looks at each of its connections for each of its requests, so one large one spends more time on
    that than on sending: with 64 requests under way about a third of the whole sender.
    """

    def __init__(self, base_url: str) -> None:
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEEPALIVE_SECONDS
        )
        tls = httpx.create_ssl_context()  # loading the trusted certificates takes a while
        proxy = _proxy_for(base_url)
        self._pools = [
            httpx.AsyncHTTPTransport(verify=tls, limits=limits, proxy=proxy) for _ in range(_POOLS)
        ]
        self._turns = itertools.cycle(self._pools)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await next(self._turns).handle_async_request(request)

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this address, which httpx ignores with a transport of ours."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


class GraphClient:
    """One client for a whole process. The caller bounds how many calls it has under way."""

    def __init__(self, base_url: str, version: str, *, total_seconds: float = 20.0) -> None:
        """`base_url` is `https://graph.facebook.com` or a stand-in; `version` is like `v26.0`.

        `total_seconds`: longest a call may take, from waiting for a connection to the answer's last byte.
        """
        self._total_seconds = total_seconds
        self._http = httpx.AsyncClient(
            base_url=f"{base_url.rstrip('/')}/{version}/",
            timeout=_TIMEOUTS,
            follow_redirects=False,
            transport=_Pools(base_url),
        )

    async def send_message(self, sender: Credentials, body: Mapping[str, Any]) -> SendResult:
        """`POST /{phone_number_id}/messages`, once. Failures of the network are results, not exceptions."""
        try:
            async with asyncio.timeout(self._total_seconds):
                response = await self._http.post(
                    f"{sender.phone_number_id}/messages",
                    content=msgspec.json.encode(body),
                    headers={
                        "Content-Type": "application/json",
                        "Authorization": f"Bearer {sender.access_token}",
                    },
                )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            return NotSent(_words(error))
        # Everything else may have happened after the request was read: nothing in these exceptions tells a
        # reset before from a reset after, so none of them proves that nothing was sent.
        except (httpx.TransportError, TimeoutError) as error:
            return Unknown(_words(error))
        return read_answer(response.status_code, response.headers, response.content)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> SendResult:
    """What an HTTP answer to a send says. Any body will do: Meta's edge answers with HTML at times."""
    document = _json_object(body)
    error = document.get("error") if document is not None else None
    if isinstance(error, dict):
        return _refused(status, headers, error)
    if 200 <= status < 300:
        accepted = _accepted(document) if document is not None else None
        return accepted or Unknown(f"HTTP {status} without a message id")
    if 400 <= status < 500:
        return Refused(http_status=status, retry_after=_retry_after(headers))
    return Unknown(f"HTTP {status} without Meta's envelope")


def _accepted(document: dict[str, Any]) -> Accepted | None:
    wamid = _text(_first(document.get("messages")).get("id"))
    if wamid is None:
        return None
    contact = _first(document.get("contacts"))
    return Accepted(wamid, wa_id=_text(contact.get("wa_id")), user_id=_text(contact.get("user_id")))


def _refused(status: int, headers: Mapping[str, str], error: dict[str, Any]) -> Refused:
    return Refused(
        http_status=status,
        code=_integer(error.get("code")),
        subcode=_integer(error.get("error_subcode")),
        details=_details(error)[:_DETAILS_MAX_CHARS],
        is_transient=error.get("is_transient") is True,
        retry_after=_retry_after(headers),
        trace_id=_text(error.get("fbtrace_id")) or "",
    )


def _details(error: dict[str, Any]) -> str:
    """Meta's most precise words: `error_data` is an object, or a string that may hold JSON, or missing."""
    data = error.get("error_data")
    if isinstance(data, str):
        data = _json_object(data.encode()) or data
    details = data.get("details") if isinstance(data, dict) else data
    for words in (details, error.get("error_user_msg"), error.get("message")):
        if isinstance(words, str) and words.strip():
            return words
    return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that Meta asks us to wait, from `Retry-After` or the usage header of management limits."""
    try:
        return min(max(float(headers.get("retry-after", "")), 0.0), 3600.0)
    except ValueError:
        pass  # missing, or a date, which Meta does not send
    usage = _json_object(headers.get("x-business-use-case-usage", "").encode())
    minutes = [
        entry.get("estimated_time_to_regain_access")
        for entries in (usage or {}).values()
        if isinstance(entries, list)
        for entry in entries
        if isinstance(entry, dict)
    ]
    known = [value for value in minutes if isinstance(value, int | float) and value > 0]
    return min(max(known) * 60.0, 3600.0) if known else None


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return document if isinstance(document, dict) else None


def _first(items: object) -> dict[str, Any]:
    return items[0] if isinstance(items, list) and items and isinstance(items[0], dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _integer(value: object) -> int | None:
    """Codes are integers; some endpoints send them as strings."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _words(error: Exception) -> str:
    """The kind of failure and its message. httpx puts no headers into its messages."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")
