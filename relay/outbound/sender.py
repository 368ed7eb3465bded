"""The sender: claims what may go, sends it to Meta, records what came of it.

    claim (commit) → begin (commit) → POST → settle (commit)

An attempt is committed as begun before its first byte leaves, so a sender that dies at any point leaves a
row that says what may have happened. Any number of senders may run, in any number of processes.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram

from relay.kit.db import Database, TenantWork
from relay.kit.doorbell import Doorbell
from relay.kit.secrets import SealError, Secrets
from relay.meta.errors import STOPS, is_known
from relay.meta.graph import Credentials, GraphClient, NotSent, Refused, SendResult, Unknown
from relay.numbers.service import load_sender
from relay.outbound import callback, pacing, service
from relay.outbound.decisions import DEFAULT_TIMES, Line, SendTimes, decide
from relay.outbound.pacing import Claim, Claims
from relay.outbound.service import Outcome
from shared.content import TextContent

log = structlog.get_logger(__name__)

CONCURRENCY: Final = 64
"""Requests under way at once in one process."""
TRANSACTIONS: Final = 4
"""Database connections that begin and settle attempts at once."""
CREDENTIALS_SECONDS: Final = 30.0
"""How long a number's token is kept in memory; a replaced one is used after this at the latest."""
POLL_SECONDS: Final = 1.0
PACE_SECONDS: Final = 0.02
PACE_MAX_SECONDS: Final = 0.5
"""Pauses between claims while messages wait for their number's pace."""
SETTLE_TRIES: Final = 8

_sent = Counter("relay_send_attempts_total", "Attempts to send, by what came of them.", ["outcome"])
_unknown = Counter("relay_send_unknown_total", "Attempts whose answer from Meta was lost.")
_stopped = Counter(
    "relay_send_stopped_total", "Answers that let nothing of a number through, by Meta's code.", ["code"]
)
_seconds = Histogram("relay_send_seconds", "Time from a request to Meta's answer.")


class Sender:
    """Sends for all numbers until told to stop."""

    def __init__(
        self,
        *,
        database: Database,
        doorbell: Doorbell,
        secrets: Secrets,
        graph: GraphClient,
        times: SendTimes = DEFAULT_TIMES,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._database = database
        self._doorbell = doorbell
        self._secrets = secrets
        self._graph = graph
        self._times = times
        self._concurrency = concurrency
        self._transactions = asyncio.Semaphore(TRANSACTIONS)
        self._settler = _Settler(database, self._transactions, times)
        self._credentials: dict[UUID, tuple[float, Credentials]] = {}
        self._jitter = random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._batches: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._landed = asyncio.Event()
        self._unknown_codes: set[int] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; then finish what is under way, which takes as long as a request may."""
        pause = PACE_SECONDS
        try:
            while not stop.is_set():
                claims = await self._claim()
                if stop.is_set():
                    await self._release(claims.taken)
                    break
                self._start(claims.taken)
                if claims.taken:
                    pause = PACE_SECONDS
                if self._in_flight >= self._concurrency:
                    self._landed.clear()
                    await self._landed.wait()
                elif claims.waiting:
                    # Every settled message rings, but makes room no sooner than the pace does.
                    await asyncio.sleep(PACE_SECONDS)
                    await self._doorbell.wait("send", pause)
                    pause = min(PACE_MAX_SECONDS, 2 * pause)
                elif not claims.taken:
                    await self._doorbell.wait("send", POLL_SECONDS)
        finally:
            while self._batches:
                await asyncio.wait(self._batches)

    async def _claim(self) -> Claims:
        room = self._concurrency - self._in_flight
        async with self._database.system() as work:
            return await pacing.claim(work, room, lease=self._times.lease)

    async def _release(self, claims: Collection[Claim]) -> None:
        for tenant_id, its_claims in _by_tenant(claims).items():
            async with self._database.system_for(tenant_id) as work:
                await service.release(work, its_claims)

    def _start(self, claims: Collection[Claim]) -> None:
        self._in_flight += len(claims)
        for tenant_id, its_claims in _by_tenant(claims).items():
            batch = asyncio.create_task(self._send_batch(tenant_id, its_claims))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)

    async def _send_batch(self, tenant_id: UUID, claims: Sequence[Claim]) -> None:
        """Begin these claims together, then send each on its own."""
        left = len(claims)
        begun_at = time.monotonic()
        try:
            try:
                async with self._transactions, self._database.system_for(tenant_id) as work:
                    ready = await service.begin(work, claims, self._times)
                    credentials = {
                        claim.number_id: await self._credentials_of(work, claim.number_id)
                        for claim, _ in ready
                    }
            except Exception:
                # Nothing was sent. The reconciler gives the claims back when their lease ends.
                log.exception("claims could not be begun", tenant_id=tenant_id, claims=len(claims))
                return
            self._land(left - len(ready))
            left = len(ready)
            async with asyncio.TaskGroup() as group:
                for claim, content in ready:
                    left -= 1
                    group.create_task(self._send_one(claim, content, credentials[claim.number_id], begun_at))
        finally:
            self._land(left)

    async def _send_one(
        self, claim: Claim, content: TextContent, sender: Credentials | None, begun_at: float
    ) -> None:
        try:
            result = await self._post(claim, content, sender, begun_at)
            await self._settler.settle(self._outcome(claim, result))
        except Exception:
            # Its row says that it was begun, so the reconciler finds out what happened.
            log.exception("attempt not settled", attempt_id=claim.attempt_id, message_id=claim.message_id)
        finally:
            self._land(1)

    async def _post(
        self, claim: Claim, content: TextContent, sender: Credentials | None, begun_at: float
    ) -> SendResult:
        if sender is None:
            return NotSent("the number has no usable access token")
        if time.monotonic() - begun_at > self._times.lease - self._times.request:
            # The process stood still. Others may think by now that this attempt is over.
            return NotSent("too late to begin")
        with _seconds.time():
            return await self._graph.send_message(sender, self._body(claim, content))

    def _body(self, claim: Claim, content: TextContent) -> dict[str, Any]:
        address = "to" if claim.recipient_kind == "phone" else "recipient"
        recipient = f"+{claim.recipient.lstrip('+')}" if address == "to" else claim.recipient
        has_link = "http://" in content.body or "https://" in content.body
        return {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            address: recipient,
            "type": "text",
            "text": {"body": content.body, "preview_url": has_link},
            "biz_opaque_callback_data": callback.encode(self._secrets, claim.tenant_id, claim.attempt_id),
        }

    def _outcome(self, claim: Claim, result: SendResult) -> Outcome:
        decision = decide(
            result,
            attempt=claim.attempt,
            age=claim.age,
            pair_backoff=claim.pair_backoff,
            times=self._times,
            jitter=self._jitter,
        )
        _sent.labels(decision.state).inc()
        context: dict[str, Any] = {
            "attempt_id": claim.attempt_id,
            "message_id": claim.message_id,
            "number_id": claim.number_id,
            "outcome": str(decision.state),
        }
        match result:
            case NotSent(reason=reason):
                log.warning("send failed before Meta", reason=reason, **context)
                return Outcome(claim, decision, detail=reason)
            case Unknown(reason=reason):
                _unknown.inc()
                log.warning("send of unknown outcome", reason=reason, **context)
                return Outcome(claim, decision, detail=reason)
            case Refused(code=code, details=details):
                self._log_refusal(result, context)
                if decision.line is Line.STOP:
                    self._credentials.pop(claim.number_id, None)
                return Outcome(claim, decision, code=code, detail=details)
        return Outcome(claim, decision)

    def _log_refusal(self, refused: Refused, context: dict[str, Any]) -> None:
        answer = {
            "code": refused.code,
            "subcode": refused.subcode,
            "http_status": refused.http_status,
            "details": refused.details,
            "trace_id": refused.trace_id,
        }
        if (
            refused.code is not None
            and not is_known(refused.code)
            and refused.code not in self._unknown_codes
        ):
            self._unknown_codes.add(refused.code)
            log.error("Meta answered with a code that the error table lacks", **answer, **context)
        elif refused.meaning.kind in STOPS:
            _stopped.labels(refused.code).inc()
            log.error("Meta lets nothing of this number through", **answer, **context)
        else:
            log.warning("Meta refused a message", **answer, **context)

    async def _credentials_of(self, work: TenantWork, number_id: UUID) -> Credentials | None:
        known_since, known = self._credentials.get(number_id, (0.0, None))
        if known is not None and time.monotonic() - known_since < CREDENTIALS_SECONDS:
            return known
        try:
            number = await load_sender(work, self._secrets, number_id)
        except SealError:
            log.exception("access token cannot be opened", number_id=number_id)
            number = None
        if number is None:
            return None
        credentials = Credentials(number.phone_number_id, number.access_token)
        self._credentials[number_id] = (time.monotonic(), credentials)
        return credentials

    def _land(self, count: int) -> None:
        self._in_flight -= count
        if count:
            self._landed.set()


class _Settler:
    """Records outcomes, those of one tenant together: while one transaction commits, the next ones gather."""

    def __init__(self, database: Database, transactions: asyncio.Semaphore, times: SendTimes) -> None:
        self._database = database
        self._transactions = transactions
        self._times = times
        self._waiting: dict[UUID, list[tuple[Outcome, asyncio.Future[None]]]] = {}

    async def settle(self, outcome: Outcome) -> None:
        """Return once the outcome is on disk; raises what kept it from getting there."""
        tenant_id = outcome.claim.tenant_id
        done = asyncio.get_running_loop().create_future()
        gathering = self._waiting.get(tenant_id)
        if gathering is not None:
            gathering.append((outcome, done))
        else:
            self._waiting[tenant_id] = [(outcome, done)]
            await self._flush(tenant_id)
        await done

    async def _flush(self, tenant_id: UUID) -> None:
        """Write until nothing more has gathered."""
        while batch := self._waiting[tenant_id]:
            self._waiting[tenant_id] = []
            if len(batch) > 1 and await self._try(tenant_id, batch):
                continue
            for entry in batch:  # one that cannot be written must not keep the others
                await self._insist(tenant_id, entry)
        del self._waiting[tenant_id]

    async def _try(self, tenant_id: UUID, batch: Sequence[tuple[Outcome, asyncio.Future[None]]]) -> bool:
        try:
            await self._write(tenant_id, [outcome for outcome, _ in batch])
        except Exception:
            log.warning("outcomes not recorded together", outcomes=len(batch), exc_info=True)
            return False
        for _, done in batch:
            done.set_result(None)
        return True

    async def _insist(self, tenant_id: UUID, entry: tuple[Outcome, asyncio.Future[None]]) -> None:
        outcome, done = entry
        for n in range(1, SETTLE_TRIES + 1):
            try:
                await self._write(tenant_id, [outcome])
            except Exception as error:
                log.warning("outcome not recorded", attempt_id=outcome.claim.attempt_id, n=n, exc_info=True)
                if n == SETTLE_TRIES:
                    done.set_exception(error)
                    return
                await asyncio.sleep(min(5.0, 0.05 * 2**n))
            else:
                done.set_result(None)
                return

    async def _write(self, tenant_id: UUID, outcomes: Sequence[Outcome]) -> None:
        async with self._transactions, self._database.system_for(tenant_id) as work:
            await service.settle(work, outcomes, self._times)


def _by_tenant(claims: Collection[Claim]) -> dict[UUID, list[Claim]]:
    grouped: dict[UUID, list[Claim]] = defaultdict(list)
    for claim in claims:
        grouped[claim.tenant_id].append(claim)
    return grouped
