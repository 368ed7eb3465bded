"""Statements on attempts: begun, settled, and found out about.

Statements take `:now` for tests; otherwise they read the database's clock.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB

from relay.kit.db import SystemWork, TenantWork
from relay.outbound.decisions import MAY_COME_FROM, AttemptState
from relay.outbound.pacing import PRIORITY_WAIT_SECONDS
from shared.delivery import RANK, DeliveryStatus

_CLOCK: Final = "SELECT coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS now"


class Begun(NamedTuple):
    """An attempt whose request may start now."""

    attempt_id: UUID
    content: Any
    status_rank: int
    last_inbound_at: datetime | None
    now: datetime


async def begin(
    work: TenantWork, attempts: Collection[UUID], *, lease: float, now: datetime | None = None
) -> list[Begun]:
    """Mark claimed attempts as begun, before any byte is sent. Those whose lease ran out are left out."""
    parameters = {"tenant_id": work.tenant_id, "ids": sorted(attempts), "lease": lease, "now": now}
    return [Begun._make(row) for row in await work.execute(_BEGIN, parameters)]


_BEGIN = text(f"""
    WITH clock AS MATERIALIZED ({_CLOCK}
    ), begun AS (
        UPDATE send_attempt a
        SET started_at = clock.now, check_at = clock.now + make_interval(secs => :lease)
        FROM clock
        WHERE a.tenant_id = :tenant_id AND a.id = ANY(CAST(:ids AS uuid[]))
            AND a.state = 'claimed' AND a.started_at IS NULL
        RETURNING a.id, a.message_id
    )
    SELECT begun.id, m.content, m.status_rank, c.last_inbound_at, clock.now
    FROM clock, begun
    JOIN message m ON m.tenant_id = :tenant_id AND m.id = begun.message_id
    JOIN conversation c ON c.tenant_id = :tenant_id AND c.id = m.conversation_id
""").columns(content=JSONB())  # noqa: S608 - constants of this file


async def mark_sending(work: TenantWork, messages: Collection[UUID]) -> list[tuple[UUID, UUID]]:
    """Show these messages as being sent; returns the (message, conversation) of those that moved."""
    parameters = {
        "tenant_id": work.tenant_id,
        "ids": sorted(messages),
        "status": DeliveryStatus.SENDING,
        "rank": RANK[DeliveryStatus.SENDING],
    }
    return [(row.id, row.conversation_id) for row in await work.execute(_MARK_SENDING, parameters)]


_MARK_SENDING = text("""
    UPDATE message
    SET status = :status, status_rank = CAST(:rank AS smallint), status_at = clock_timestamp(),
        version = version + 1
    WHERE tenant_id = :tenant_id AND id = ANY(CAST(:ids AS uuid[])) AND status_rank < CAST(:rank AS smallint)
    RETURNING id, conversation_id
""")


class Moved(NamedTuple):
    """An attempt that changed its state: the `n`-th of its message."""

    message_id: UUID
    n: int


async def move_attempt(
    work: TenantWork,
    attempt_id: UUID,
    to: AttemptState,
    *,
    code: int | None = None,
    detail: Mapping[str, Any] | None = None,
    check_in: float | None = None,
    only_unbegun: bool = False,
    now: datetime | None = None,
) -> Moved | None:
    """Move an attempt if it stands where this move may start; None if it does not.

    `check_in`: seconds after its start when the reconciler shall look at it again. `only_unbegun`: not if a
    request may have left.
    """
    parameters = {
        "tenant_id": work.tenant_id,
        "id": attempt_id,
        "to": to,
        "from": sorted(MAY_COME_FROM[to]),
        "code": code,
        "detail": None if detail is None else msgspec.json.encode(detail).decode(),
        "check_in": check_in,
        "only_unbegun": only_unbegun,
        "now": now,
    }
    row = (await work.execute(_MOVE_ATTEMPT, parameters)).one_or_none()
    return None if row is None else Moved(row.message_id, row.n)


_MOVE_ATTEMPT = text(f"""
    WITH clock AS ({_CLOCK})
    UPDATE send_attempt a
    SET state = CAST(:to AS text), error_code = coalesce(CAST(:code AS integer), a.error_code),
        detail = coalesce(CAST(:detail AS jsonb), a.detail),
        check_at = a.started_at + make_interval(secs => CAST(:check_in AS float8)),
        finished_at = CASE WHEN CAST(:check_in AS float8) IS NULL THEN clock.now END
    FROM clock
    WHERE a.tenant_id = :tenant_id AND a.id = :id AND a.state = ANY(CAST(:from AS text[]))
        AND (a.started_at IS NULL OR NOT CAST(:only_unbegun AS boolean))
    RETURNING a.message_id, a.n
""")  # noqa: S608 - constants of this file


class Proven(NamedTuple):
    """A message that Meta has for certain. `wamid` is what its row carries, `proof` what the attempt got."""

    message_id: UUID
    conversation_id: UUID
    number_id: UUID
    wamid: str
    proof: str


async def accept(
    work: TenantWork, proofs: Sequence[tuple[UUID, str]], *, now: datetime | None = None
) -> list[Proven]:
    """Record (attempt, wamid) proofs, from answers or statuses; returns the messages of the new ones.

    The first proof names the message. Nothing more is sent for it: it leaves the queue, unless a later
    attempt of it is under way already.
    """
    parameters = {
        "tenant_id": work.tenant_id,
        "ids": [attempt_id for attempt_id, _ in proofs],
        "wamids": [wamid for _, wamid in proofs],
        "now": now,
        "status": DeliveryStatus.ACCEPTED,
        "rank": RANK[DeliveryStatus.ACCEPTED],
    }
    return [Proven._make(row) for row in await work.execute(_ACCEPT, parameters)]


# Rows are locked in the order of their ids, so that two of these cannot wait for each other.
_ACCEPT = text(f"""
    WITH clock AS MATERIALIZED ({_CLOCK}
    ), proof AS MATERIALIZED (
        SELECT a.id, a.message_id, a.n, p.wamid
        FROM unnest(CAST(:ids AS uuid[]), CAST(:wamids AS text[])) AS p (id, wamid)
        JOIN send_attempt a ON a.id = p.id
        WHERE a.tenant_id = :tenant_id AND a.state <> 'accepted'
        ORDER BY a.id
        FOR UPDATE OF a
    ), attempt AS (
        UPDATE send_attempt a
        SET state = 'accepted', wamid = proof.wamid, finished_at = clock.now, check_at = NULL
        FROM clock, proof
        WHERE a.tenant_id = :tenant_id AND a.id = proof.id
    ), queue AS (
        DELETE FROM send_queue q USING proof
        WHERE q.tenant_id = :tenant_id AND q.message_id = proof.message_id
            AND (q.attempts = proof.n OR q.state <> 'claimed')
    ), first AS (
        SELECT DISTINCT ON (message_id) message_id, wamid FROM proof ORDER BY message_id, n
    ), named AS (
        UPDATE message m
        SET wamid = coalesce(m.wamid, first.wamid),
            status = CASE WHEN m.status_rank < CAST(:rank AS smallint) THEN :status ELSE m.status END,
            status_at = CASE WHEN m.status_rank < CAST(:rank AS smallint) THEN clock.now ELSE m.status_at END,
            error = CASE WHEN m.status_rank < CAST(:rank AS smallint) THEN NULL ELSE m.error END,
            status_rank = greatest(m.status_rank, CAST(:rank AS smallint)),
            version = m.version + 1
        FROM clock, first
        WHERE m.tenant_id = :tenant_id AND m.id = first.message_id
        RETURNING m.id, m.conversation_id, m.number_id, m.wamid
    )
    SELECT named.*, proof.wamid AS proof FROM named JOIN proof ON proof.message_id = named.id
""")  # noqa: S608 - constants of this file


async def wait_for_next(
    work: TenantWork, message_id: UUID, attempt: int, *, retry_in: float, now: datetime | None = None
) -> None:
    """Put a message back in line after its `attempt`-th attempt certainly sent nothing."""
    parameters = {
        "tenant_id": work.tenant_id,
        "message_id": message_id,
        "attempt": attempt,
        "retry_in": retry_in,
        "wait": PRIORITY_WAIT_SECONDS,
        "now": now,
    }
    await work.execute(_WAIT_FOR_NEXT, parameters)


_WAIT_FOR_NEXT = text(f"""
    WITH clock AS ({_CLOCK})
    UPDATE send_queue q
    SET state = 'queued', due_at = clock.now + make_interval(secs => :retry_in),
        turn_at = clock.now + make_interval(secs => :retry_in + CAST(:wait AS float8) * q.priority)
    FROM clock
    WHERE q.tenant_id = :tenant_id AND q.message_id = :message_id AND q.attempts = :attempt
""")  # noqa: S608 - constants of this file


async def set_unknown(work: TenantWork, message_id: UUID, attempt: int) -> None:
    """Keep a message, and its conversation behind it, until its attempt's outcome is known."""
    parameters = {"tenant_id": work.tenant_id, "message_id": message_id, "attempt": attempt}
    await work.execute(_SET_UNKNOWN, parameters)


_SET_UNKNOWN = text("""
    UPDATE send_queue SET state = 'unknown'
    WHERE tenant_id = :tenant_id AND message_id = :message_id AND attempts = :attempt
""")


async def leave_queue(work: TenantWork, message_id: UUID, attempt: int) -> bool:
    """Take a message out of the queue after this attempt.

    False if the attempt says nothing about the message any more: it is out, has a later attempt, or an
    earlier one turned out to be accepted.
    """
    parameters = {"tenant_id": work.tenant_id, "message_id": message_id, "attempt": attempt}
    row = (await work.execute(_LEAVE_QUEUE, parameters)).one_or_none()
    return row is not None and row.wamid is None


_LEAVE_QUEUE = text("""
    DELETE FROM send_queue q USING message m
    WHERE q.tenant_id = :tenant_id AND q.message_id = :message_id AND q.attempts = :attempt
        AND m.tenant_id = q.tenant_id AND m.id = q.message_id
    RETURNING m.wamid
""")


# --- finding out what happened --------------------------------------------------------------------


class Overdue(NamedTuple):
    """An attempt to look at: its sender is gone, or no status has named it for long enough."""

    tenant_id: UUID
    attempt_id: UUID
    state: AttemptState
    started: bool


async def overdue(work: SystemWork, limit: int, *, now: datetime | None = None) -> list[Overdue]:
    """The attempts that are due for a look, oldest first."""
    rows = await work.execute(_OVERDUE, {"limit": limit, "now": now})
    return [Overdue(row.tenant_id, row.id, AttemptState(row.state), row.started) for row in rows]


_OVERDUE = text(f"""
    SELECT a.tenant_id, a.id, a.state, a.started_at IS NOT NULL AS started
    FROM send_attempt a
    WHERE a.state IN ('claimed', 'unknown') AND a.check_at <= ({_CLOCK})
    ORDER BY a.check_at
    LIMIT :limit
""")  # noqa: S608 - constants of this file


class UnknownAttempt(NamedTuple):
    """What the rule on resending needs to know."""

    message_id: UUID
    n: int
    content: Any
    last_inbound_at: datetime | None
    now: datetime
    unconfirmed_before: int
    statuses_flow: bool


async def look_at_unknown(
    work: TenantWork, attempt_id: UUID, *, status_lag: float, now: datetime | None = None
) -> UnknownAttempt | None:
    """The facts about an attempt of unknown outcome, with its row locked; None if it is known by now.

    `status_lag`: seconds after which a webhook that waits is a backlog.
    """
    parameters = {"tenant_id": work.tenant_id, "id": attempt_id, "lag": status_lag, "now": now}
    row = (await work.execute(_LOOK_AT_UNKNOWN, parameters)).one_or_none()
    return None if row is None else UnknownAttempt._make(row)


# Statuses flow if one was applied for an attempt that the same number began later, none of those came late
# (Meta's times are whole seconds), and nothing that arrived since could still hide one of ours. Ids of
# attempts grow with time, which bounds the search.
_LOOK_AT_UNKNOWN = text(f"""
    WITH clock AS MATERIALIZED ({_CLOCK})
    SELECT m.id, a.n, m.content, c.last_inbound_at, clock.now,
        (SELECT count(*) FROM send_attempt b
         WHERE b.tenant_id = a.tenant_id AND b.message_id = a.message_id AND b.state = 'unconfirmed'),
        EXISTS (
            SELECT FROM send_attempt later
            JOIN message other ON other.tenant_id = later.tenant_id AND other.id = later.message_id
            JOIN message_status s ON s.tenant_id = later.tenant_id AND s.number_id = other.number_id
                AND s.wamid = later.wamid
            WHERE later.tenant_id = a.tenant_id AND later.id > a.id AND later.state = 'accepted'
                AND later.started_at > a.started_at AND other.number_id = m.number_id
                AND other.id <> m.id
        ) AND NOT EXISTS (
            -- One that came late was refused at first, or could not reach us: ours may still be on its way.
            SELECT FROM send_attempt later
            JOIN message other ON other.tenant_id = later.tenant_id AND other.id = later.message_id
            JOIN message_status s ON s.tenant_id = later.tenant_id AND s.number_id = other.number_id
                AND s.wamid = later.wamid
            WHERE later.tenant_id = a.tenant_id AND later.id > a.id AND other.number_id = m.number_id
                AND s.received_at > s.occurred_at + make_interval(secs => :lag + 1)
        ) AND NOT EXISTS (
            SELECT FROM webhook_raw r
            WHERE r.state = 'new' AND r.received_at < clock.now - make_interval(secs => :lag)
        ) AND NOT EXISTS (
            SELECT FROM webhook_raw r WHERE r.state = 'parked' AND r.received_at >= a.started_at
        ) AND NOT EXISTS (
            SELECT FROM webhook_item i
            WHERE i.tenant_id = a.tenant_id AND i.state = 'new'
                AND i.created_at < clock.now - make_interval(secs => :lag)
        ) AND NOT EXISTS (
            SELECT FROM webhook_item i
            WHERE i.tenant_id = a.tenant_id AND i.number_id = m.number_id AND i.state = 'parked'
                AND i.created_at >= a.started_at
        )
    FROM clock, send_attempt a
    JOIN message m ON m.tenant_id = a.tenant_id AND m.id = a.message_id
    JOIN conversation c ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id
    WHERE a.tenant_id = :tenant_id AND a.id = :id AND a.state = 'unknown'
    FOR UPDATE OF a
""").columns(content=JSONB())  # noqa: S608 - constants of this file
