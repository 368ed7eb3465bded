"""What an item of the `messages` field does: a customer wrote, or Meta reports on what we sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from relay.conversations import service
from relay.conversations.contacts import Person
from relay.conversations.service import InboundMessage, StatusReport
from relay.inbound import queries
from relay.inbound.queries import Item
from relay.kit import ids
from relay.kit.db import TenantWork
from relay.kit.secrets import Secrets
from relay.meta.webhooks import (
    Identities,
    MessageFacts,
    StatusFacts,
    UnreadableError,
    read_message,
    read_status,
)
from relay.outbound import callback
from relay.outbound.service import settle_by_callback

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Readable:
    """An item and what it says."""

    item: Item
    facts: MessageFacts | StatusFacts


def read(item: Item) -> Readable:
    """Understand an item without any database. Raises UnreadableError."""
    payload = item.payload
    contact = payload.get("contact")
    match item.kind:
        case "message":
            return Readable(item, read_message(payload["message"], contact, item.raw_received_at))
        case "status":
            return Readable(item, read_status(payload["status"], contact, item.raw_received_at))
    raise UnreadableError(f"there is no handler for items of kind {item.kind}")


async def apply(work: TenantWork, secrets: Secrets, readable: Sequence[Readable]) -> None:
    """Apply items of one tenant in this order. Applying one again changes nothing."""
    portfolios = await queries.portfolios_of(work, {entry.item.number_id for entry in readable})
    messages: list[InboundMessage] = []
    reports: list[StatusReport] = []
    recipients: dict[tuple[str, Person], None] = {}
    attempts: dict[tuple[UUID, str], UUID] = {}
    for entry in readable:
        item, facts = entry.item, entry.facts
        portfolio_id = portfolios[item.number_id]
        if isinstance(facts, MessageFacts):
            messages.append(_inbound(item, facts, portfolio_id))
            continue
        report = StatusReport(
            item.number_id, facts.wamid, facts.status, facts.occurred_at, item.payload["status"]
        )
        reports.append(report)
        if facts.recipient is not None:
            recipients[portfolio_id, _person(facts.recipient)] = None
        attempt_id = callback.decode(secrets, work.tenant_id, facts.callback_data or "")
        if attempt_id is not None:
            attempts[report.number_id, report.wamid] = attempt_id
    await service.receive_messages(work, messages)
    await _apply_reports(work, reports, attempts)
    await service.link_identities(work, list(recipients))


async def _apply_reports(
    work: TenantWork, reports: Sequence[StatusReport], attempts: dict[tuple[UUID, str], UUID]
) -> None:
    waiting = await service.record_statuses(work, reports)
    # Where the answer to our send was lost or is late, the status says which attempt it was.
    for number_id, wamid in dict.fromkeys((report.number_id, report.wamid) for report in waiting):
        attempt_id = attempts.get((number_id, wamid))
        if attempt_id is not None:
            await settle_by_callback(work, attempt_id, wamid)
    await service.settle_waiting(work, waiting)


def _inbound(item: Item, facts: MessageFacts, portfolio_id: str) -> InboundMessage:
    received_ms = int(item.raw_received_at.timestamp() * 1000)
    return InboundMessage(
        id=ids.ordered_id(received_ms, item.id),
        number_id=item.number_id,
        portfolio_id=portfolio_id,
        person=_person(facts.sender),
        profile_name=facts.profile_name,
        wamid=facts.wamid,
        content=facts.content,
        sent_at=facts.sent_at,
        reply_to_wamid=facts.reply_to_wamid,
    )


def _person(identities: Identities) -> Person:
    return Person(*identities)
