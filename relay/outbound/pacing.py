"""Who may send now: the claim, and the pace of numbers and pairs. All of it by the database's clock.

A number is paced at nine tenths of its limit with bursts of one tenth, so no second ever holds more than the
limit. A pair (one number, one recipient) gets one message each six seconds and may borrow for a burst of 45.
Both are kept as GCRA: one time per key, which says when everything allowed so far is used up.

A limit delays, it never fails a message. Statements take `:now` for tests; otherwise the clock is read once.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from relay.kit import ids
from relay.kit.db import SystemWork, TenantWork
from relay.outbound.decisions import PAIR_SECONDS, STRIKES_TO_PAUSE, Line, pause_seconds

NUMBERS_PER_CLAIM: Final = 64
PAIR_BURST: Final = 45
PRIORITY_WAIT_SECONDS: Final = 30.0
PRIORITY_MAX: Final = 20
"""A message of priority p stands in line as if it came p x 30 s later: replies overtake a campaign (20) that
is up to ten minutes older."""
SLOWEST: Final = 0.05
STRIKES_MAX: Final = 1000
RECOVERY_STEP: Final = 0.1
RECOVERY_SECONDS: Final = 30.0
"""A throttled number halves its rate, down to a twentieth, and gets a tenth back each half minute."""


@dataclass(frozen=True)
class Claim:
    """A message that this process may send now. Its attempt row exists; nothing has been sent yet."""

    tenant_id: UUID
    attempt_id: UUID
    message_id: UUID
    number_id: UUID
    recipient: str
    recipient_kind: str
    attempt: int
    pair_backoff: int
    probe: bool
    """Whether this one message tries a line on which nothing got through lately."""
    age: float
    """Seconds since the message was queued, at the time of the claim."""


class Claims(NamedTuple):
    """`waiting`: messages are due, but their numbers, pairs or conversations let none go before a while."""

    taken: list[Claim]
    waiting: bool


_PRIORITY_MAX_WAIT: Final = f"make_interval(secs => {PRIORITY_WAIT_SECONDS * PRIORITY_MAX})"
_PAIR_CREDIT: Final = f"make_interval(secs => {PAIR_SECONDS * (PAIR_BURST - 1)})"
# The part of its rate that a throttled number may use again.
_RATE_FACTOR: Final = f"""
    least(1, p.rate_factor + {RECOVERY_STEP}
        * floor(extract(epoch FROM clock.now - p.slowed_at) / {RECOVERY_SECONDS}))
"""
_CLOCK: Final = "SELECT coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS now"

# A queue that fills quickly outruns its statistics, and with them the planner's choice of a plan. So these
# statements leave little to choose: what EXISTS would say is asked as a subquery of one row, which is never
# turned into a join over the whole queue, and rows are updated by their place, found in the same snapshot.
#
# Two claims never look at the same number at once. The second statement of the transaction takes a new
# snapshot under these locks, so it sees everything the previous holder of a number did.
_LOCK_NUMBERS = text(f"""
    WITH clock AS MATERIALIZED ({_CLOCK})
    SELECT p.tenant_id, p.number_id
    FROM clock CROSS JOIN number_pace p
    WHERE p.hold_until <= clock.now
        AND (
            SELECT 1 FROM send_queue q
            WHERE q.tenant_id = p.tenant_id AND q.number_id = p.number_id AND q.state = 'queued'
                AND q.turn_at <= clock.now + {_PRIORITY_MAX_WAIT}
                AND q.due_at <= clock.now
            ORDER BY q.turn_at LIMIT 1
        ) IS NOT NULL
    ORDER BY p.served_at, p.number_id
    LIMIT :numbers
    FOR UPDATE OF p SKIP LOCKED
""")  # noqa: S608 - constants of this file

# A message may go if it is the first of its conversation with nothing of that conversation on its way, and
# its pair has credit, one of a pair at a time. Tenants take turns: everybody's first comes before anybody's
# second.
_CLAIM = text(f"""
    WITH clock AS MATERIALIZED ({_CLOCK}
    ), line AS MATERIALIZED (
        SELECT p.tenant_id, p.number_id, p.served_at, p.strikes, 1 / pace.rate AS seconds,
            CASE WHEN p.strikes >= {STRIKES_TO_PAUSE} THEN least(1, pace.room) ELSE pace.room END AS room
        FROM clock
        CROSS JOIN unnest(CAST(:tenants AS uuid[]), CAST(:number_ids AS uuid[])) AS key (tenant_id, number_id)
        JOIN number_pace p USING (tenant_id, number_id)
        JOIN phone_number n ON n.tenant_id = p.tenant_id AND n.id = p.number_id
        CROSS JOIN LATERAL (SELECT n.messages_per_second * {_RATE_FACTOR} AS full_rate) AS limits
        CROSS JOIN LATERAL (
            SELECT 0.9 * limits.full_rate AS rate,
                CAST(greatest(0, floor(
                    greatest(1, floor(0.1 * limits.full_rate))
                    - 0.9 * limits.full_rate * greatest(0, extract(epoch FROM p.next_at - clock.now))
                    + 1e-6
                )) AS integer) AS room
        ) AS pace
    ), candidate AS (
        SELECT line.tenant_id, line.number_id, line.served_at, q.place, q.message_id, q.turn_at, q.backoff,
            line.strikes >= {STRIKES_TO_PAUSE} AS probe,
            row_number() OVER (PARTITION BY line.tenant_id ORDER BY q.turn_at, q.message_id) AS turn,
            row_number() OVER (
                PARTITION BY line.tenant_id, line.number_id, q.recipient ORDER BY q.turn_at, q.message_id
            ) AS nth_of_pair
        FROM clock CROSS JOIN line CROSS JOIN LATERAL (
            SELECT q.ctid AS place, q.message_id, q.recipient, q.turn_at, coalesce(pair.backoff, 0) AS backoff
            FROM send_queue q
            LEFT JOIN LATERAL (
                SELECT pair.next_at, pair.backoff FROM pair_pace pair
                WHERE pair.tenant_id = q.tenant_id AND pair.number_id = q.number_id
                    AND pair.recipient = q.recipient
                LIMIT 1
            ) AS pair ON true
            WHERE q.tenant_id = line.tenant_id AND q.number_id = line.number_id AND q.state = 'queued'
                AND q.turn_at <= clock.now + {_PRIORITY_MAX_WAIT}
                AND q.due_at <= clock.now
                AND coalesce(pair.next_at, 'epoch') <= clock.now + {_PAIR_CREDIT}
                AND (
                    SELECT 1 FROM send_queue ahead
                    WHERE ahead.tenant_id = q.tenant_id AND ahead.conversation_id = q.conversation_id
                        AND ahead.message_id <> q.message_id
                        AND (ahead.state <> 'queued' OR (ahead.priority, ahead.created_at, ahead.message_id)
                            < (q.priority, q.created_at, q.message_id))
                    LIMIT 1
                ) IS NULL
            ORDER BY q.turn_at, q.message_id
            LIMIT line.room
        ) AS q
    ), chosen AS MATERIALIZED (
        SELECT c.place, c.backoff, c.probe,
            row_number() OVER (ORDER BY c.turn, c.served_at, c.tenant_id, c.turn_at, c.message_id) AS n
        FROM candidate c
        WHERE c.nth_of_pair = 1
        ORDER BY n
        LIMIT cardinality(CAST(:attempt_ids AS uuid[]))
    ), claimed AS (
        UPDATE send_queue q SET state = 'claimed', attempts = q.attempts + 1
        FROM clock, chosen
        WHERE q.ctid = chosen.place AND q.state = 'queued'
        RETURNING q.tenant_id, q.message_id, q.number_id, q.recipient, q.recipient_kind, q.attempts,
            chosen.backoff, chosen.probe, chosen.n, (CAST(:attempt_ids AS uuid[]))[chosen.n] AS attempt_id,
            extract(epoch FROM clock.now - q.created_at) AS age
    ), attempt AS (
        INSERT INTO send_attempt (tenant_id, id, message_id, n, state, claimed_at, check_at)
        SELECT c.tenant_id, c.attempt_id, c.message_id, c.attempts, 'claimed', clock.now,
            clock.now + make_interval(secs => :lease)
        FROM clock, claimed c
    ), number_paced AS (
        UPDATE number_pace p
        SET served_at = clock.now,
            next_at = greatest(p.next_at, clock.now) + make_interval(secs => line.seconds * taken.count),
            hold_until = CASE WHEN line.strikes >= {STRIKES_TO_PAUSE} AND taken.count > 0
                THEN clock.now + make_interval(secs => :lease) ELSE p.hold_until END
        FROM clock, line CROSS JOIN LATERAL (
            SELECT count(*) FROM claimed c
            WHERE c.tenant_id = line.tenant_id AND c.number_id = line.number_id
        ) AS taken
        WHERE p.tenant_id = line.tenant_id AND p.number_id = line.number_id
    ), pair_paced AS (
        INSERT INTO pair_pace (tenant_id, number_id, recipient, next_at)
        SELECT c.tenant_id, c.number_id, c.recipient,
            clock.now + make_interval(secs => {PAIR_SECONDS} * count(*))
        FROM clock, claimed c
        GROUP BY c.tenant_id, c.number_id, c.recipient, clock.now
        ON CONFLICT (tenant_id, number_id, recipient) DO UPDATE
        SET next_at = excluded.next_at
            + greatest(interval '0', pair_pace.next_at - (SELECT clock.now FROM clock))
    )
    SELECT * FROM claimed ORDER BY n
""")  # noqa: S608 - constants of this file


async def claim(work: SystemWork, limit: int, *, lease: float, now: datetime | None = None) -> Claims:
    """Take up to `limit` messages that may be sent now, each with a fresh attempt that others leave alone.

    Commit before anything is sent. `lease`: seconds until a claim that was not begun counts as lost.
    """
    locked = await work.execute(_LOCK_NUMBERS, {"now": now, "numbers": NUMBERS_PER_CLAIM})
    numbers = locked.all()
    if not numbers:
        return Claims([], waiting=False)
    parameters = {
        "now": now,
        "tenants": [row.tenant_id for row in numbers],
        "number_ids": [row.number_id for row in numbers],
        "attempt_ids": [ids.new_id() for _ in range(limit)],
        "lease": lease,
    }
    taken = [
        Claim(
            tenant_id=row.tenant_id,
            attempt_id=row.attempt_id,
            message_id=row.message_id,
            number_id=row.number_id,
            recipient=row.recipient,
            recipient_kind=row.recipient_kind,
            attempt=row.attempts,
            pair_backoff=row.backoff,
            probe=row.probe,
            age=float(row.age),
        )
        for row in await work.execute(_CLAIM, parameters)
    ]
    return Claims(taken, waiting=len(taken) < limit)


async def note_line(
    work: TenantWork,
    number_id: UUID,
    line: Line,
    *,
    rest: float = 0.0,
    code: int | None = None,
    probe: bool = False,
    now: datetime | None = None,
) -> None:
    """Let a number's pace learn from an outcome. `rest`: seconds of pause; `code`: Meta's, where it says why.

    Many requests may be under way when a line fails. While the number rests, more of the same failure says
    nothing new, except from the one message (`probe`) that tried the line.
    """
    key = {"tenant_id": work.tenant_id, "number_id": number_id, "now": now}
    match line:
        case Line.CLEAR:
            await work.execute(_CLEAR, key)
        case Line.REST:
            await work.execute(_REST, key | {"rest": rest})
        case Line.SLOW:
            await work.execute(_SLOW, key | {"rest": rest})
        case Line.STRIKE | Line.STOP:
            row = (await work.execute(_LOCK_NUMBER, key)).one()
            stopped = line is Line.STOP
            if row.resting and not probe and (row.hold_code is not None or not stopped):
                return
            strikes = max(row.strikes + 1, STRIKES_TO_PAUSE) if stopped else row.strikes + 1
            rest = max(rest, pause_seconds(strikes, stopped=stopped))
            strikes = min(strikes, STRIKES_MAX)
            await work.execute(_STRIKE, key | {"rest": rest, "strikes": strikes, "code": code})


_CLEAR = text(f"""
    WITH clock AS ({_CLOCK})
    UPDATE number_pace p
    SET strikes = 0, hold_code = NULL,
        hold_until = CASE WHEN p.strikes >= {STRIKES_TO_PAUSE} THEN clock.now ELSE p.hold_until END
    FROM clock
    WHERE p.tenant_id = :tenant_id AND p.number_id = :number_id AND p.strikes > 0
""")  # noqa: S608 - constants of this file

_REST = text(f"""
    WITH clock AS ({_CLOCK})
    UPDATE number_pace p SET hold_until = greatest(p.hold_until, clock.now + make_interval(secs => :rest))
    FROM clock
    WHERE p.tenant_id = :tenant_id AND p.number_id = :number_id
""")  # noqa: S608 - constants of this file

_SLOW = text(f"""
    WITH clock AS ({_CLOCK})
    UPDATE number_pace p
    SET rate_factor = greatest({SLOWEST}, 0.5 * {_RATE_FACTOR}), slowed_at = clock.now,
        hold_until = clock.now + make_interval(secs => :rest)
    FROM clock
    WHERE p.tenant_id = :tenant_id AND p.number_id = :number_id AND p.hold_until <= clock.now
""")  # noqa: S608 - constants of this file

_LOCK_NUMBER = text(f"""
    WITH clock AS ({_CLOCK})
    SELECT p.strikes, p.hold_code, p.hold_until > clock.now AS resting
    FROM clock CROSS JOIN number_pace p
    WHERE p.tenant_id = :tenant_id AND p.number_id = :number_id
    FOR UPDATE OF p
""")  # noqa: S608 - constants of this file

_STRIKE = text(f"""
    WITH clock AS ({_CLOCK})
    UPDATE number_pace p
    SET strikes = :strikes, hold_code = coalesce(CAST(:code AS integer), p.hold_code),
        hold_until = greatest(
            CASE WHEN p.strikes >= {STRIKES_TO_PAUSE} THEN clock.now ELSE p.hold_until END,
            clock.now + make_interval(secs => :rest))
    FROM clock
    WHERE p.tenant_id = :tenant_id AND p.number_id = :number_id
""")  # noqa: S608 - constants of this file


async def note_pair(
    work: TenantWork,
    number_id: UUID,
    recipient: str,
    *,
    backoff: int,
    retry_in: float = 0.0,
    now: datetime | None = None,
) -> None:
    """Meta refused (`backoff` > 0) or took (0) a message of this pair: what was borrowed is used up, or not.

    After a refusal nothing goes for `retry_in` seconds, and then without a burst.
    """
    key = {"tenant_id": work.tenant_id, "number_id": number_id, "recipient": recipient}
    if backoff == 0:
        await work.execute(_PAIR_CLEAR, key)
    else:
        await work.execute(_PAIR_REFUSED, key | {"now": now, "backoff": backoff, "retry_in": retry_in})


_PAIR_CLEAR = text("""
    UPDATE pair_pace SET backoff = 0
    WHERE tenant_id = :tenant_id AND number_id = :number_id AND recipient = :recipient AND backoff > 0
""")

_PAIR_REFUSED = text(f"""
    WITH clock AS ({_CLOCK})
    UPDATE pair_pace p
    SET backoff = :backoff,
        next_at = greatest(p.next_at, clock.now + {_PAIR_CREDIT} + make_interval(secs => :retry_in))
    FROM clock
    WHERE p.tenant_id = :tenant_id AND p.number_id = :number_id AND p.recipient = :recipient
""")  # noqa: S608 - constants of this file
