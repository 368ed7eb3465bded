"""What happens to conversations: messages arrive, ticks move forward, an agent has read.

Everything here may run again with the same arguments and changes nothing the second time.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from relay.conversations import contacts, queries
from relay.conversations.contacts import Person
from relay.kit import ids
from relay.kit.cursor import Position, decode, encode
from relay.kit.db import Database, TenantWork
from relay.kit.lanes import lane_hash
from relay.kit.problem import ProblemError
from relay.meta import errors
from shared.content import Content
from shared.delivery import RANK, DeliveryStatus
from shared.wire.inbox import ConversationPage, MessagePage, SendError
from shared.wire.problem import Code


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A customer's message. `id` is the same whenever the same webhook is applied again."""

    id: UUID
    number_id: UUID
    portfolio_id: str
    person: Person
    profile_name: str
    wamid: str
    content: Content
    sent_at: datetime
    reply_to_wamid: str | None = None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What Meta said about an outbound message; `payload` is its status object."""

    number_id: UUID
    wamid: str
    status: str
    occurred_at: datetime
    payload: dict[str, Any] = field(default_factory=dict)


# What Meta may report. Any other value is kept as an event and moves nothing.
_REPORTED: Final = {
    str(status): status
    for status in (
        DeliveryStatus.SENT,
        DeliveryStatus.DELIVERED,
        DeliveryStatus.READ,
        DeliveryStatus.PLAYED,
        DeliveryStatus.FAILED,
    )
}


async def receive_messages(work: TenantWork, messages: Sequence[InboundMessage]) -> list[UUID]:
    """Store customers' messages in this order; returns the ids of the new ones, without duplicates."""
    if not messages:
        return []
    people = [(message.portfolio_id, message.person) for message in messages]
    contact_ids, altered = await contacts.resolve(work, people)
    conversation_ids = await _find_or_start(work, messages, contact_ids)
    new = await queries.insert_inbound(
        work,
        ids=[message.id for message in messages],
        conversations=conversation_ids,
        numbers=[message.number_id for message in messages],
        wamids=[message.wamid for message in messages],
        contents=[message.content for message in messages],
        times=[message.sent_at for message in messages],
        replies=[message.reply_to_wamid for message in messages],
    )
    names: dict[UUID, str] = {}
    arrivals: dict[UUID, tuple[int, datetime]] = {}
    for message, contact_id, conversation_id in zip(messages, contact_ids, conversation_ids, strict=True):
        if message.id not in new:
            continue
        work.changed("message", message.id)
        if message.profile_name:
            names[contact_id] = message.profile_name
        count, newest = arrivals.get(conversation_id, (0, message.sent_at))
        arrivals[conversation_id] = (count + 1, max(newest, message.sent_at))
    if arrivals:
        await queries.note_inbound(work, [(key, *value) for key, value in arrivals.items()])
    if names:
        altered |= await contacts.rename(work, names)
    if altered:
        for conversation_id in await queries.bump_conversations_of(work, altered):
            work.changed("conversation", conversation_id)
    for conversation_id in arrivals:
        work.changed("conversation", conversation_id)
    return [message.id for message in messages if message.id in new]


async def _find_or_start(
    work: TenantWork, messages: Sequence[InboundMessage], contact_ids: Sequence[UUID]
) -> list[UUID]:
    """The conversation of each message."""
    pairs = [(message.number_id, contact) for message, contact in zip(messages, contact_ids, strict=True)]
    known = await queries.find_conversations(work, set(pairs))
    missing: dict[tuple[UUID, UUID], datetime] = {}
    for message, pair in zip(messages, pairs, strict=True):
        if pair not in known:
            missing.setdefault(pair, message.sent_at)
    if missing:
        rows = [(ids.new_id(), *pair, sent_at) for pair, sent_at in missing.items()]
        await queries.insert_conversations(work, rows)
        known |= await queries.find_conversations(work, missing.keys())
    return [known[pair] for pair in pairs]


async def link_identities(work: TenantWork, people: Sequence[tuple[str, Person]]) -> None:
    """Note further identities of people already known, each given with its business portfolio."""
    altered = await contacts.link(work, people)
    if altered:
        for conversation_id in await queries.bump_conversations_of(work, altered):
            work.changed("conversation", conversation_id)


async def record_statuses(work: TenantWork, reports: Sequence[StatusReport]) -> list[StatusReport]:
    """Keep what Meta reported and move the messages that are known; returns the reports of unknown ones.

    Those wait, and are applied by `apply_waiting_statuses` when the message gets its wamid. A caller that can
    find the message in another way does so first and then calls `settle_waiting` with the same reports.
    """
    if not reports:
        return []
    await queries.insert_statuses(
        work,
        numbers=[report.number_id for report in reports],
        wamids=[report.wamid for report in reports],
        statuses=[report.status for report in reports],
        times=[report.occurred_at for report in reports],
        payloads=[report.payload for report in reports],
    )
    return await _advance_known(work, reports)


async def settle_waiting(work: TenantWork, reports: Sequence[StatusReport]) -> None:
    """Look once more for the messages of these recorded reports, after whoever is storing their wamids."""
    if reports:
        await queries.lock_wamids(work, [_pairing_lock(report.number_id, report.wamid) for report in reports])
        await _advance_known(work, reports)


async def apply_waiting_statuses(work: TenantWork, keys: Collection[tuple[UUID, str]]) -> None:
    """Apply what Meta reported about messages before they got their (number, wamid).

    Call it in the transaction that stores the wamids, after storing them.
    """
    # A status may be on its way in another transaction that cannot see this wamid yet, nor we the status:
    # both sides take this lock before they look, so one of them sees the other's row.
    await queries.lock_wamids(work, [_pairing_lock(*key) for key in keys])
    reports = [StatusReport(*row) for row in await queries.statuses_of(work, keys)]
    if reports:
        await _advance_known(work, reports)


async def advance_status(
    work: TenantWork,
    message_id: UUID,
    status: DeliveryStatus,
    at: datetime,
    *,
    error: SendError | None = None,
) -> bool:
    """Move a message forward on the ladder and announce it; False if it already stands there or further.

    `error` says why it failed and is cleared by any other status.
    """
    conversation_id = await queries.advance_one(work, message_id, status, at, error)
    if conversation_id is None:
        return False
    await announce_moved(work, [(message_id, conversation_id)])
    return True


async def announce_moved(work: TenantWork, moved: Collection[tuple[UUID, UUID]]) -> None:
    """Tell clients of messages whose row changed, (message, conversation), and of lists that show them."""
    for message_id, _ in moved:
        work.changed("message", message_id)
    if moved:
        for conversation_id in await queries.bump_where_newest(work, moved):
            work.changed("conversation", conversation_id)


async def list_conversations(
    database: Database, tenant_id: UUID, cursor: str | None, limit: int
) -> ConversationPage:
    """A page of the inbox, newest activity first. Raises ProblemError `invalid_cursor`."""
    before = None if cursor is None else decode(cursor)
    async with database.tenant(tenant_id) as work:
        rows = await queries.conversation_page(work, limit + 1, before)
    items = rows[:limit]
    more = encode(Position(items[-1].last_activity_at, items[-1].id)) if len(rows) > limit else None
    return ConversationPage(items, more)


async def list_messages(
    database: Database, tenant_id: UUID, conversation_id: UUID, cursor: str | None, limit: int
) -> MessagePage:
    """A page of a timeline, newest first. Raises ProblemError `invalid_cursor` or `not_found`."""
    before = None if cursor is None else decode(cursor)
    async with database.tenant(tenant_id) as work:
        rows = await queries.message_page(work, conversation_id, limit + 1, before)
        if not rows and not await queries.conversation_exists(work, conversation_id):
            raise ProblemError(Code.NOT_FOUND, "There is no such conversation.")
    items = rows[:limit]
    more = encode(Position(items[-1].sent_at, items[-1].id)) if len(rows) > limit else None
    return MessagePage(items, more)


async def mark_read(database: Database, tenant_id: UUID, conversation_id: UUID, message_id: UUID) -> None:
    """An agent has seen everything up to this message. Never raises the unread count."""
    async with database.tenant(tenant_id) as work:
        if not await queries.lock_conversation(work, conversation_id):
            raise ProblemError(Code.NOT_FOUND, "There is no such conversation.")
        changed = await queries.lower_unread(work, conversation_id, message_id)
        if changed is None:
            raise ProblemError(Code.NOT_FOUND, "This conversation has no such message.")
        if changed:
            work.changed("conversation", conversation_id)


async def _advance_known(work: TenantWork, reports: Sequence[StatusReport]) -> list[StatusReport]:
    """Move each message to the highest status reported; returns the reports of messages not known here."""
    known = await queries.known_wamids(work, {(report.number_id, report.wamid) for report in reports})
    best: dict[tuple[UUID, str], queries.Move] = {}
    unknown: list[StatusReport] = []
    for report in reports:
        key = (report.number_id, report.wamid)
        if key not in known:
            unknown.append(report)
            continue
        status = _REPORTED.get(report.status)
        if status is None or (key in best and RANK[best[key].status] >= RANK[status]):
            continue
        error = send_error(report.payload) if status is DeliveryStatus.FAILED else None
        best[key] = queries.Move(*key, status, report.occurred_at, error)
    if best:
        await announce_moved(work, await queries.advance(work, list(best.values())))
    return unknown


def send_error(status: dict[str, Any]) -> SendError:
    """Why Meta could not deliver, in words, from a status object that may lack anything."""
    reasons = status.get("errors")
    first = reasons[0] if isinstance(reasons, list) and reasons else None
    if not isinstance(first, dict):
        return errors.explain(None)
    code, data = first.get("code"), first.get("error_data")
    details = data.get("details") if isinstance(data, dict) else None
    return errors.explain(code if isinstance(code, int) else None, str(details or ""))


def _pairing_lock(number_id: UUID, wamid: str) -> int:
    return lane_hash("wamid", number_id, wamid)
