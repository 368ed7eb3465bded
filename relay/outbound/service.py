"""What happens to messages that we send: taken from an agent, begun, settled, found out about.

Settling runs as compare-and-set on the attempt, so every function here may run again, or late, or against
another process that was faster, and nothing happens twice.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
import structlog

from relay.accounts.identity import Identity
from relay.conversations import queries as conversation_queries
from relay.conversations.service import advance_status, announce_moved, apply_waiting_statuses
from relay.kit.db import Database, TenantWork
from relay.kit.problem import ProblemError
from relay.meta.errors import explain
from relay.outbound import attempt_queries, pacing, queries
from relay.outbound.attempt_queries import Overdue
from relay.outbound.decisions import (
    UNCONFIRMED,
    AttemptState,
    Decision,
    Line,
    SendTimes,
    Verdict,
    decide_unknown,
)
from relay.outbound.pacing import Claim
from relay.outbound.queries import Target
from shared import service_window
from shared.content import Content, TextContent
from shared.delivery import RANK, DeliveryStatus
from shared.limits import TEXT_MAX_CHARS
from shared.wire.inbox import Message, SendError, SendMessageRequest
from shared.wire.problem import Code, FieldError

log = structlog.get_logger(__name__)

WINDOW_CLOSED: Final = msgspec.structs.replace(explain(131047), meta_code=None)
"""Words for a message that no longer fits the service window, the same whether Meta or we noticed."""
WORTH_SAYING_SECONDS: Final = 10.0
"""A message that waits for longer than this says why."""


# --- what agents ask for --------------------------------------------------------------------------


async def send_message(
    database: Database, identity: Identity, conversation_id: UUID, request: SendMessageRequest
) -> tuple[Message, bool]:
    """Take an agent's message and put it in line; returns it, and whether it is new.

    The same client id again returns the message it made, also after the window has closed. Raises
    ProblemError `invalid_request`, `not_found`, `client_id_reused`, `window_closed` or `conflict`.
    """
    _check_text(request.content)
    async with database.tenant(identity.tenant_id) as work:
        target = await queries.lock_target(work, conversation_id)
        if target is None:
            raise ProblemError(Code.NOT_FOUND, "There is no such conversation.")
        if not await _made_before(work, conversation_id, request):
            _check_window(target)
            created = await queries.insert_message(
                work,
                client_id=request.client_id,
                conversation_id=conversation_id,
                number_id=target.number_id,
                author_id=identity.user_id,
                content=request.content,
                at=target.now,
            )
            if not created:  # the id belongs to a message that has no client id, or was taken just now
                raise ProblemError(Code.CLIENT_ID_REUSED, "Make a fresh UUIDv7 for every message.")
            await _enqueue(work, request.client_id, conversation_id, target)
            await queries.note_outbound(work, conversation_id, target.now)
            work.changed("message", request.client_id)
            work.changed("conversation", conversation_id)
        else:
            created = False
        return await _read(work, request.client_id), created


async def send_again(
    database: Database, identity: Identity, conversation_id: UUID, message_id: UUID, *, may_arrive_twice: bool
) -> Message:
    """The agent sends a message again that failed, or whose sending nobody could confirm.

    The latter may then arrive twice, which the agent must accept. Raises ProblemError `not_found`,
    `conflict` or `window_closed`.
    """
    async with database.tenant(identity.tenant_id) as work:
        target = await queries.lock_target(work, conversation_id)
        status = await queries.lock_message(work, conversation_id, message_id) if target else None
        if target is None or status is None:
            raise ProblemError(Code.NOT_FOUND, "There is no such message of ours.")
        if status not in (DeliveryStatus.FAILED, DeliveryStatus.UNCONFIRMED):
            raise ProblemError(Code.CONFLICT, f"A message that is “{status}” cannot be sent again.")
        if status is DeliveryStatus.UNCONFIRMED and not may_arrive_twice:
            raise ProblemError(Code.CONFLICT, "It may have arrived already; say that twice is fine.")
        _check_window(target)
        await queries.requeue_by_hand(work, message_id, target.now)
        await _enqueue(work, message_id, conversation_id, target)
        await announce_moved(work, [(message_id, conversation_id)])
        return await _read(work, message_id)


async def mark_not_sent(
    database: Database, identity: Identity, conversation_id: UUID, message_id: UUID
) -> Message:
    """The agent knows that an unconfirmed message did not arrive. Late proof that it did still wins.

    Raises ProblemError `not_found` or `conflict`.
    """
    async with database.tenant(identity.tenant_id) as work:
        target = await queries.lock_target(work, conversation_id)
        status = await queries.lock_message(work, conversation_id, message_id) if target else None
        if target is None or status is None:
            raise ProblemError(Code.NOT_FOUND, "There is no such message of ours.")
        if status is not DeliveryStatus.UNCONFIRMED:
            raise ProblemError(Code.CONFLICT, f"A message that is “{status}” needs no such mark.")
        await advance_status(work, message_id, DeliveryStatus.CANCELLED, target.now)
        return await _read(work, message_id)


def _check_text(content: TextContent) -> None:
    problem = ""
    if not content.body.strip():
        problem = "Write something first."
    elif len(content.body) > TEXT_MAX_CHARS:
        problem = f"At most {TEXT_MAX_CHARS} characters; this has {len(content.body)}."
    elif "\0" in content.body or any("\ud800" <= char <= "\udfff" for char in content.body):
        problem = "The text holds characters that are none."
    if problem:
        raise ProblemError(Code.INVALID_REQUEST, problem, errors=[FieldError("/content/body", problem)])


async def _made_before(work: TenantWork, conversation_id: UUID, request: SendMessageRequest) -> bool:
    found = await queries.find_by_client_id(work, request.client_id)
    if found is None:
        return False
    _, its_conversation, content = found
    if its_conversation != conversation_id or content != msgspec.to_builtins(request.content):
        raise ProblemError(
            Code.CLIENT_ID_REUSED, "A message with another text or in another conversation has this id."
        )
    return True


def _check_window(target: Target) -> None:
    if service_window.is_open(target.last_inbound_at, target.now):
        return
    closed = service_window.closes_at(target.last_inbound_at)
    raise ProblemError(
        Code.WINDOW_CLOSED,
        f"{WINDOW_CLOSED.title}. {WINDOW_CLOSED.advice}",
        extra={} if closed is None else {"closed_at": closed},
    )


def _recipient(target: Target) -> tuple[str, str]:
    if target.phone is not None:
        return target.phone, "phone"
    if target.bsuid is not None:
        return target.bsuid, "bsuid"
    raise ProblemError(Code.CONFLICT, "Neither a phone number nor an id of this customer is known.")


async def _enqueue(work: TenantWork, message_id: UUID, conversation_id: UUID, target: Target) -> None:
    recipient, kind = _recipient(target)
    hold_code = await queries.enqueue(
        work,
        message_id=message_id,
        conversation_id=conversation_id,
        number_id=target.number_id,
        recipient=recipient,
        recipient_kind=kind,
        at=target.now,
    )
    if hold_code is not None:
        await queries.set_error(work, message_id, explain(hold_code))
    work.wake("send")


async def _read(work: TenantWork, message_id: UUID) -> Message:
    (message,) = await conversation_queries.message_rows(work, [message_id])
    return message


# --- an attempt's life ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: the decision, and what to keep of Meta's answer for whoever looks into it."""

    claim: Claim
    decision: Decision
    code: int | None = None
    detail: str = ""


async def begin(
    work: TenantWork, claims: Collection[Claim], times: SendTimes, *, now: datetime | None = None
) -> list[tuple[Claim, TextContent]]:
    """Mark claims as begun; returns those to send, with their content. Commit before the first byte leaves.

    A message whose window closed while it waited fails here, unsent. Claims that this process held for too
    long belong to others by now and are left out.
    """
    claimed = {claim.attempt_id: claim for claim in claims}
    ready: list[tuple[Claim, TextContent]] = []
    for row in await attempt_queries.begin(work, claimed, lease=times.lease, now=now):
        claim = claimed[row.attempt_id]
        content: Content = msgspec.convert(row.content, Content)
        if row.status_rank >= RANK[DeliveryStatus.ACCEPTED]:
            # Late proof, or the agent, was faster than this attempt.
            await attempt_queries.move_attempt(
                work, claim.attempt_id, AttemptState.RETRY_LATER, detail={"reason": "no longer needed"}
            )
            await attempt_queries.leave_queue(work, claim.message_id, claim.attempt)
        elif not isinstance(content, TextContent):
            reason = f"nothing sends {type(content).__name__}"
            await _fail(work, claim.attempt_id, explain(131051), reason=reason)
        elif not service_window.is_open(row.last_inbound_at, row.now):
            await _fail(work, claim.attempt_id, WINDOW_CLOSED, reason="the window closed while it waited")
        else:
            ready.append((claim, content))
    if ready:
        moved = await attempt_queries.mark_sending(work, [claim.message_id for claim, _ in ready])
        await announce_moved(work, moved)
    return ready


async def release(work: TenantWork, claims: Collection[Claim]) -> None:
    """Give claims back that were not begun."""
    for claim in claims:
        await _retry(work, claim.attempt_id, retry_in=0.0, reason="released unbegun", only_unbegun=True)


async def settle(
    work: TenantWork, outcomes: Sequence[Outcome], times: SendTimes, *, now: datetime | None = None
) -> None:
    """Record the outcomes of attempts, whatever order they come in."""
    await _note_pace(work, outcomes, now)
    proofs = [
        (outcome.claim.attempt_id, outcome.decision.wamid)
        for outcome in outcomes
        if outcome.decision.wamid is not None
    ]
    if proofs:
        await _accept(work, proofs, now)
    for outcome in sorted(outcomes, key=lambda outcome: outcome.claim.attempt_id):
        attempt_id, decision = outcome.claim.attempt_id, outcome.decision
        match decision.state:
            case AttemptState.RETRY_LATER:
                long = max(decision.retry_in, decision.rest) >= WORTH_SAYING_SECONDS
                await _retry(
                    work,
                    attempt_id,
                    retry_in=decision.retry_in,
                    error=decision.error if long or decision.line is Line.STOP else None,
                    code=outcome.code,
                    reason=outcome.detail,
                    now=now,
                )
            case AttemptState.FAILED:
                error = decision.error or explain(outcome.code)
                await _fail(work, attempt_id, error, code=outcome.code, reason=outcome.detail, now=now)
            case AttemptState.UNKNOWN:
                await _doubt(work, attempt_id, times, code=outcome.code, reason=outcome.detail, now=now)


async def settle_by_callback(work: TenantWork, attempt_id: UUID, wamid: str) -> None:
    """A status of Meta's names this attempt: it was accepted, as this wamid, whatever we thought so far."""
    await _accept(work, [(attempt_id, wamid)])


async def _note_pace(work: TenantWork, outcomes: Sequence[Outcome], now: datetime | None) -> None:
    """Numbers first and pairs after them: the order in which a claim locks them."""
    by_number: dict[UUID, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_number[outcome.claim.number_id].append(outcome)
    for number_id in sorted(by_number):
        lines: dict[Line, Outcome] = {}
        for outcome in by_number[number_id]:
            if outcome.claim.probe or outcome.decision.line not in lines:
                lines[outcome.decision.line] = outcome
        if Line.CLEAR in lines:
            lines.pop(Line.STRIKE, None)
        # Where one number got several answers, what asks for more caution is noted last.
        for line in sorted(lines, key=lambda line: line.value):
            outcome = lines[line]
            await pacing.note_line(
                work,
                number_id,
                line,
                rest=outcome.decision.rest,
                code=outcome.code if line is Line.STOP else None,
                probe=outcome.claim.probe,
                now=now,
            )
    pairs = {
        (outcome.claim.number_id, outcome.claim.recipient): outcome.decision
        for outcome in outcomes
        if outcome.decision.pair_backoff is not None
        and outcome.decision.pair_backoff != outcome.claim.pair_backoff
    }
    for key in sorted(pairs):
        backoff, retry_in = pairs[key].pair_backoff or 0, pairs[key].retry_in
        await pacing.note_pair(work, *key, backoff=backoff, retry_in=retry_in, now=now)


async def _accept(work: TenantWork, proofs: Sequence[tuple[UUID, str]], now: datetime | None = None) -> None:
    proven = await attempt_queries.accept(work, proofs, now=now)
    if not proven:
        return
    for row in proven:
        if row.proof != row.wamid:
            log.error("message sent twice", message_id=row.message_id, first=row.wamid, second=row.proof)
    await apply_waiting_statuses(work, [(row.number_id, row.wamid) for row in proven])
    await announce_moved(work, [(row.message_id, row.conversation_id) for row in proven])
    work.wake("send")  # the conversation's next message may go


async def _retry(
    work: TenantWork,
    attempt_id: UUID,
    *,
    retry_in: float,
    reason: str,
    error: SendError | None = None,
    code: int | None = None,
    only_unbegun: bool = False,
    now: datetime | None = None,
) -> None:
    moved = await attempt_queries.move_attempt(
        work,
        attempt_id,
        AttemptState.RETRY_LATER,
        code=code,
        detail={"reason": reason},
        only_unbegun=only_unbegun,
        now=now,
    )
    if moved is None:
        return
    await attempt_queries.wait_for_next(work, moved.message_id, moved.n, retry_in=retry_in, now=now)
    conversation_id = await queries.set_error(work, moved.message_id, error)
    if conversation_id is not None:
        await announce_moved(work, [(moved.message_id, conversation_id)])
    if retry_in == 0.0:
        work.wake("send")


async def _fail(
    work: TenantWork,
    attempt_id: UUID,
    error: SendError,
    *,
    reason: str,
    code: int | None = None,
    now: datetime | None = None,
) -> None:
    moved = await attempt_queries.move_attempt(
        work, attempt_id, AttemptState.FAILED, code=code, detail={"reason": reason}, now=now
    )
    if moved is not None and await attempt_queries.leave_queue(work, moved.message_id, moved.n):
        at = await queries.read_clock(work)
        await advance_status(work, moved.message_id, DeliveryStatus.FAILED, at, error=error)
        work.wake("send")


async def _doubt(
    work: TenantWork,
    attempt_id: UUID,
    times: SendTimes,
    *,
    reason: str,
    code: int | None = None,
    now: datetime | None = None,
) -> None:
    moved = await attempt_queries.move_attempt(
        work,
        attempt_id,
        AttemptState.UNKNOWN,
        code=code,
        detail={"reason": reason},
        check_in=times.quiet,
        now=now,
    )
    if moved is not None:
        await attempt_queries.set_unknown(work, moved.message_id, moved.n)


# --- finding out what happened --------------------------------------------------------------------


async def look_into(
    work: TenantWork, entry: Overdue, times: SendTimes, *, now: datetime | None = None
) -> Verdict | None:
    """Deal with one overdue attempt. Returns the verdict where its outcome was unknown and is given up on."""
    if entry.state is AttemptState.CLAIMED and not entry.started:
        await _retry(
            work, entry.attempt_id, retry_in=0.0, reason="claimed, never begun", only_unbegun=True, now=now
        )
        return None
    if entry.state is AttemptState.CLAIMED:
        await _doubt(work, entry.attempt_id, times, reason="the sender ended before it knew", now=now)
        return None
    facts = await attempt_queries.look_at_unknown(
        work, entry.attempt_id, status_lag=times.status_lag, now=now
    )
    if facts is None:
        return None
    verdict = decide_unknown(
        free_form=isinstance(msgspec.convert(facts.content, Content), TextContent),
        window_open=service_window.is_open(facts.last_inbound_at, facts.now),
        statuses_flow=facts.statuses_flow,
        unconfirmed_before=facts.unconfirmed_before,
    )
    moved = await attempt_queries.move_attempt(work, entry.attempt_id, AttemptState.UNCONFIRMED, now=now)
    if moved is None:
        raise RuntimeError(f"attempt {entry.attempt_id} changed under its lock")
    if verdict is Verdict.RESEND:
        await attempt_queries.wait_for_next(work, moved.message_id, moved.n, retry_in=0.0, now=now)
        work.wake("send")
    elif await attempt_queries.leave_queue(work, moved.message_id, moved.n):
        await advance_status(work, moved.message_id, DeliveryStatus.UNCONFIRMED, facts.now, error=UNCONFIRMED)
        work.wake("send")
    return verdict
