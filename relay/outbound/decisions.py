"""What happens to an attempt: pure rules, without a clock or a database.

    claimed ──→ accepted                      Meta took it
       │  ├───→ retry_later                   certainly not sent; the message waits for its next attempt
       │  └───→ failed                        refused for good
       └──────→ unknown ──→ unconfirmed       the answer was lost, and no status named the attempt
                   └──────→ accepted          a status names the attempt

Proof wins at any time: a status that carries an attempt's id makes it accepted, whatever was thought before.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final

from relay.meta.error_table import Kind
from relay.meta.errors import LIMITS, STOPS, explain
from relay.meta.graph import Accepted, NotSent, Refused, SendResult, Unknown
from shared.wire.inbox import SendError


class AttemptState(StrEnum):
    CLAIMED = "claimed"
    ACCEPTED = "accepted"
    RETRY_LATER = "retry_later"
    FAILED = "failed"
    UNKNOWN = "unknown"
    UNCONFIRMED = "unconfirmed"


_EVERY_OTHER: Final = frozenset(AttemptState) - {AttemptState.ACCEPTED}
MAY_COME_FROM: Final[dict[AttemptState, Collection[AttemptState]]] = {
    AttemptState.ACCEPTED: _EVERY_OTHER,
    # An explicit refusal settles an attempt even if its lease ran out before the answer came.
    AttemptState.RETRY_LATER: frozenset({AttemptState.CLAIMED, AttemptState.UNKNOWN}),
    AttemptState.FAILED: frozenset({AttemptState.CLAIMED, AttemptState.UNKNOWN}),
    AttemptState.UNKNOWN: frozenset({AttemptState.CLAIMED}),
    AttemptState.UNCONFIRMED: frozenset({AttemptState.UNKNOWN}),
}
"""The states a state may follow. Every move in the database is a compare-and-set against these."""


@dataclass(frozen=True)
class SendTimes:
    """How long things may take, in seconds."""

    lease: float = 45.0
    """A claim older than this has lost its sender."""
    request: float = 20.0
    """The longest a request may take, from its first wait to the last byte of the answer."""
    quiet: float = 120.0
    """How long after its start an unknown attempt is left to be named by a status."""
    status_lag: float = 5.0
    """Webhooks that wait for longer than this are a backlog, in which a status of ours may hide."""
    max_age: float = 24 * 3600.0
    """A message that could not be sent for this long fails."""
    reconcile_every: float = 5.0

    def __post_init__(self) -> None:
        if not (self.request < self.lease < self.quiet and self.status_lag < self.quiet):
            raise ValueError("a request ends within the lease; the lease and the lag within the quiet time")


DEFAULT_TIMES: Final = SendTimes()


class Line(Enum):
    """What an outcome says about the number's line to Meta."""

    CLEAR = auto()
    """Meta answered: messages get through."""
    STRIKE = auto()
    """No proof that anything gets through; several in a row pause the number."""
    SLOW = auto()
    """Meta throttles the number: send at half the rate."""
    REST = auto()
    """Meta asks for a pause."""
    STOP = auto()
    """Nothing gets through until somebody acts: hold the queue, and probe with one message at a time."""


@dataclass(frozen=True)
class Decision:
    """What follows from the outcome of an attempt.

    `retry_in` and `rest` are seconds: until the message's next attempt, and for the number to rest. `error`
    is shown on the message; while it waits, it says what it waits for. `pair_backoff` counts refusals in a
    row for this recipient, and is None where the outcome does not touch it.
    """

    state: AttemptState
    line: Line
    wamid: str | None = None
    error: SendError | None = None
    retry_in: float = 0.0
    rest: float = 0.0
    pair_backoff: int | None = None


STRIKES_TO_PAUSE: Final = 5
SLOW_REST_SECONDS: Final = 2.0
PAUSE_FIRST_SECONDS: Final = 5.0
STOP_FIRST_SECONDS: Final = 60.0
PAUSE_MAX_SECONDS: Final = 300.0
RETRY_MAX_SECONDS: Final = 60.0
PAIR_SECONDS: Final = 6.0
PAIR_MAX_SECONDS: Final = 3600.0

GAVE_UP: Final = SendError(
    title="The message could not be sent for a whole day",
    advice="WhatsApp could not be reached, or did not let us send. Check whether it still makes sense, then "
    "send it again.",
)
UNREACHABLE: Final = SendError(
    title="WhatsApp cannot be reached at the moment",
    advice="There is nothing to do: the message goes out as soon as the connection is back.",
)
UNCONFIRMED: Final = SendError(
    title="We could not confirm that this was sent",
    advice="WhatsApp did not answer. If the customer has not seen it, send it again. It may then arrive "
    "twice.",
)


def decide(
    result: SendResult,
    *,
    attempt: int,
    age: float,
    pair_backoff: int,
    times: SendTimes,
    jitter: random.Random,
) -> Decision:
    """What follows from Meta's answer to the message's `attempt`-th attempt.

    `age`: seconds since the message was queued; `pair_backoff`: refusals in a row for this recipient so far.
    """
    match result:
        case Accepted(wamid=wamid):
            return Decision(AttemptState.ACCEPTED, Line.CLEAR, wamid=wamid, pair_backoff=0)
        case NotSent():
            decision = Decision(
                AttemptState.RETRY_LATER,
                Line.STRIKE,
                error=UNREACHABLE,
                retry_in=_back_off(attempt, jitter),
            )
        case Unknown():
            return Decision(AttemptState.UNKNOWN, Line.STRIKE)
        case Refused():
            decision = _decide_refused(result, attempt, pair_backoff, jitter)
    if decision.state is AttemptState.RETRY_LATER and age + decision.retry_in > times.max_age:
        # The pace of the number still has to learn what Meta said, so only the message's fate changes.
        return Decision(
            AttemptState.FAILED,
            decision.line,
            error=GAVE_UP,
            rest=decision.rest,
            pair_backoff=decision.pair_backoff,
        )
    return decision


def _decide_refused(result: Refused, attempt: int, pair_backoff: int, jitter: random.Random) -> Decision:
    meaning = result.meaning
    words = explain(result.code, result.details, subcode=result.subcode)
    rest = result.retry_after or float(meaning.hold_seconds)
    if meaning.final:
        return Decision(AttemptState.FAILED, Line.REST if rest else Line.CLEAR, error=words, rest=rest)
    if meaning.kind is Kind.RECONCILE:
        return Decision(AttemptState.UNKNOWN, Line.STRIKE)
    if meaning.kind is Kind.LIMIT_PAIR:
        retry_in = min(PAIR_SECONDS * 4**pair_backoff, PAIR_MAX_SECONDS)
        return Decision(
            AttemptState.RETRY_LATER,
            Line.CLEAR,
            error=words,
            retry_in=max(retry_in, rest),
            pair_backoff=pair_backoff + 1,
        )
    if meaning.kind in LIMITS:
        rest = rest or SLOW_REST_SECONDS
        return Decision(AttemptState.RETRY_LATER, Line.SLOW, error=words, retry_in=rest, rest=rest)
    if meaning.kind is Kind.RETRY:
        if rest:
            return Decision(AttemptState.RETRY_LATER, Line.REST, error=words, retry_in=rest, rest=rest)
        retry_in = _back_off(attempt, jitter)
        return Decision(AttemptState.RETRY_LATER, Line.STRIKE, error=words, retry_in=retry_in)
    if meaning.kind in STOPS:
        # The number's pause decides when the next message tries; this one should be first in line then.
        return Decision(AttemptState.RETRY_LATER, Line.STOP, error=words, rest=rest)
    return Decision(AttemptState.FAILED, Line.CLEAR, error=words)


def _back_off(attempt: int, jitter: random.Random) -> float:
    return min(RETRY_MAX_SECONDS, 2.0 ** min(attempt, 10)) * jitter.uniform(0.5, 1.0)


class Verdict(Enum):
    """What to do with an attempt of unknown outcome once it has been quiet for long enough."""

    RESEND = auto()
    GIVE_UP = auto()


def decide_unknown(
    *, free_form: bool, window_open: bool, statuses_flow: bool, unconfirmed_before: int
) -> Verdict:
    """Whether a message whose attempt no status has named may be sent once more.

    `statuses_flow`: it is proven that statuses of later messages of the same number have been received and
    applied, with none waiting or parked, so that one of ours would have been too. Without that proof, a
    second time (`unconfirmed_before`), and for anything but free-form text the agent decides.
    """
    if free_form and window_open and statuses_flow and unconfirmed_before == 0:
        return Verdict.RESEND
    return Verdict.GIVE_UP


def pause_seconds(strikes: int, *, stopped: bool) -> float:
    """How long a number rests after this many failures in a row; 0 while there are too few to tell."""
    if strikes < STRIKES_TO_PAUSE:
        return 0.0
    first = STOP_FIRST_SECONDS if stopped else PAUSE_FIRST_SECONDS
    return min(PAUSE_MAX_SECONDS, first * 2.0 ** min(strikes - STRIKES_TO_PAUSE, 10))
