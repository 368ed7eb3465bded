"""What follows from Meta's answer, and when a message may be sent once more."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.meta.error_table import TABLE
from relay.meta.errors import LIMITS, STOPS
from relay.meta.graph import Accepted, NotSent, Refused, Unknown
from relay.outbound.decisions import (
    DEFAULT_TIMES,
    GAVE_UP,
    MAY_COME_FROM,
    PAUSE_MAX_SECONDS,
    STRIKES_TO_PAUSE,
    AttemptState,
    Decision,
    Line,
    SendTimes,
    Verdict,
    decide,
    decide_unknown,
    pause_seconds,
)

DAY = DEFAULT_TIMES.max_age


def decided(result: Any, *, attempt: int = 1, age: float = 0.0, pair_backoff: int = 0) -> Decision:
    return decide(
        result,
        attempt=attempt,
        age=age,
        pair_backoff=pair_backoff,
        times=DEFAULT_TIMES,
        jitter=random.Random(1),
    )


def test_accepted() -> None:
    decision = decided(Accepted("wamid.1"), pair_backoff=3)
    assert (decision.state, decision.line, decision.wamid) == (AttemptState.ACCEPTED, Line.CLEAR, "wamid.1")
    assert decision.pair_backoff == 0


def test_a_lost_answer_is_never_simply_tried_again() -> None:
    for result in (
        Unknown("timeout"),
        Refused(500, 131000),
        Refused(503, 2),
        Refused(400, 1),
        Refused(502, None),
    ):
        decision = decided(result)
        assert (decision.state, decision.line) == (AttemptState.UNKNOWN, Line.STRIKE)
        assert decided(result, age=2 * DAY).state is AttemptState.UNKNOWN


def test_what_was_not_sent_is_tried_again_ever_more_rarely() -> None:
    waits = [decided(NotSent("dns"), attempt=n).retry_in for n in range(1, 12)]
    assert all(0 < wait <= 60 for wait in waits)
    assert waits[0] <= 2
    assert waits[-1] >= 30
    assert decided(NotSent("dns")).line is Line.STRIKE


@pytest.mark.parametrize(
    "code", sorted(code for code, row in TABLE.items() if row.kind in LIMITS and not row.final)
)
def test_a_limit_delays_and_never_fails(code: int) -> None:
    decision = decided(Refused(400, code))
    assert decision.state is AttemptState.RETRY_LATER
    assert decision.retry_in >= 1
    assert decided(Refused(400, code), age=DAY + 1).error == GAVE_UP


def test_the_wait_for_a_pair_grows_fourfold() -> None:
    decisions = [decided(Refused(400, 131056), pair_backoff=n) for n in range(7)]
    assert [decision.retry_in for decision in decisions] == [6, 24, 96, 384, 1536, 3600, 3600]
    assert [decision.pair_backoff for decision in decisions] == [1, 2, 3, 4, 5, 6, 7]
    assert {decision.line for decision in decisions} == {Line.CLEAR}  # other recipients go on


@pytest.mark.parametrize("code", [130429, 80007, 4])
def test_throttling_slows_the_number(code: int) -> None:
    assert decided(Refused(400, code)).line is Line.SLOW
    assert decided(Refused(400, code, retry_after=420.0)).rest == 420


def test_meta_asks_for_a_minute() -> None:
    decision = decided(Refused(500, 131057))
    assert (decision.line, decision.rest, decision.retry_in) == (Line.REST, 60, 60)


@pytest.mark.parametrize("code", sorted(code for code, row in TABLE.items() if row.kind in STOPS))
def test_a_stop_holds_the_number_unless_waiting_is_pointless(code: int) -> None:
    decision = decided(Refused(401, code))
    if TABLE[code].final:
        assert decision.state is AttemptState.FAILED
    else:
        assert (decision.state, decision.line) == (AttemptState.RETRY_LATER, Line.STOP)
        assert decision.error is not None
        assert decision.error.meta_code == code


def test_a_refusal_of_this_message_fails_it_and_clears_the_line() -> None:
    for code in (100, 131026, 131047, 131049, 132001, 137000, 999_999):
        decision = decided(Refused(400, code))
        assert (decision.state, decision.line) == (AttemptState.FAILED, Line.CLEAR)
        assert decision.error is not None


_RESULTS = st.one_of(
    st.builds(Accepted, st.text(min_size=1)),
    st.builds(NotSent, st.text()),
    st.builds(Unknown, st.text()),
    st.builds(
        Refused,
        st.integers(200, 599),
        st.none() | st.integers() | st.sampled_from(sorted(TABLE)),
        st.none() | st.integers() | st.sampled_from(sorted(TABLE)),
        st.text(),
        st.booleans(),
        st.none() | st.floats(0, 3600),
    ),
)


@given(_RESULTS, st.integers(1, 10_000), st.floats(0, 2 * DAY), st.integers(0, 50))
def test_every_answer_leads_somewhere(result: Any, attempt: int, age: float, backoff: int) -> None:
    decision = decided(result, attempt=attempt, age=age, pair_backoff=backoff)
    assert AttemptState.CLAIMED in MAY_COME_FROM[decision.state]
    assert decision.retry_in >= 0
    assert (decision.state is AttemptState.ACCEPTED) == (decision.wamid is not None)
    if decision.state is AttemptState.FAILED:
        assert decision.error is not None
    if decision.state is AttemptState.RETRY_LATER:
        assert age + decision.retry_in <= DAY


def test_proof_wins_over_every_other_state() -> None:
    assert set(MAY_COME_FROM[AttemptState.ACCEPTED]) == set(AttemptState) - {AttemptState.ACCEPTED}
    for state in AttemptState:
        assert AttemptState.ACCEPTED not in MAY_COME_FROM.get(state, ())


def test_a_message_is_sent_once_more_only_if_everything_speaks_for_it() -> None:
    for free_form, window_open, statuses_flow, before in itertools.product(
        *(((True, False),) * 3), (0, 1, 2)
    ):
        verdict = decide_unknown(
            free_form=free_form,
            window_open=window_open,
            statuses_flow=statuses_flow,
            unconfirmed_before=before,
        )
        everything = free_form and window_open and statuses_flow and before == 0
        assert verdict is (Verdict.RESEND if everything else Verdict.GIVE_UP)


def test_pauses_grow_and_end_somewhere() -> None:
    assert [pause_seconds(n, stopped=False) for n in range(STRIKES_TO_PAUSE)] == [0.0] * STRIKES_TO_PAUSE
    pauses = [pause_seconds(STRIKES_TO_PAUSE + n, stopped=False) for n in range(4)]
    assert pauses == [5, 10, 20, 40]
    assert pause_seconds(STRIKES_TO_PAUSE, stopped=True) == 60
    assert pause_seconds(10_000, stopped=True) == PAUSE_MAX_SECONDS


@pytest.mark.parametrize(
    "times", [{"request": 50.0}, {"lease": 130.0}, {"quiet": 40.0}, {"status_lag": 200.0}]
)
def test_times_that_contradict_each_other_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="within"):
        SendTimes(**times)
