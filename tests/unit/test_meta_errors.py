"""The error table: complete, classified as agreed, and with words for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.meta.error_table import EDGE, TABLE, Kind
from relay.meta.errors import QUOTE_MAX_CHARS, STOPS, classify, explain, is_known

# Every code that Meta's pages name for the Cloud API, with the class agreed for it.
EXPECTED: dict[Kind, tuple[int, ...]] = {
    Kind.STOP_CREDENTIAL: (0, 3, 10, 102, 104, 190, *range(200, 300), 131005),
    Kind.STOP_ACCOUNT: (368, 131031, 131042, 131044, 134011, 131064, 2388019),
    Kind.STOP_NUMBER: (33, 803, 131037, 131045, 131048, 133010, 133016),
    Kind.LIMIT_APP: (4, 17, 32),
    Kind.LIMIT_WABA: (80007, 80008),
    Kind.LIMIT_NUMBER: (613, 130429, 131208, 132069, 133008, 133009, 138002, 138005, 138009, 138012),
    Kind.LIMIT_PAIR: (131056,),
    Kind.RECONCILE: (1, 2, 131000, 131016),
    Kind.RETRY: (131057, 133000, 133004, 133015, 134101, 139102, 139103, 2494100),
    Kind.BUG: (
        *(100, 192, 131008, 131055, 131059, 134100, 2593079, 2593085),
        *(2388023, 2388024, 2388039, 2388040, 2388047, 2388072, 2388073, 2388293, 2388299),
    ),
    Kind.BAD_MESSAGE: (
        *(130472, 131009, 131020, 131047, 131051, 131053, 131062, 135000, 137000, 139200),
        *(132000, 132005, 132008, 132012, 132018, 134103, 2388318, 2388330, 2494191),
    ),
    Kind.BAD_RECIPIENT: (130403, 130497, 131021, 131026, 131030, 131041, 131049, 131050),
    Kind.BAD_TEMPLATE: (131063, 132001, 132007, 132015, 132016, 132068, 134102),
    Kind.NOTICE: (130501, 131052, 131060, 1752041),
    Kind.OPERATOR: (
        *(133005, 133006, 136024, 136025, 36009, 200005, 200006, 200007),
        *(2388001, 2388012, 2388091, 2388093, 2388103, 2593107, 2593108, 2593109),
        *(2494164, 2494165, 2494166, 2494167, 2494168, 2494176, 2494177, 2494179),
        *range(147001, 147006),
        *range(139000, 139005),
        *(139100, 139101),
        *(131201, 131202, 131204, 131207, *range(131209, 131216)),
        *(138000, 138001, 138003, 138004, 138006, 138007, 138013, 138014, 138015),
        *range(138017, 138024),
    ),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_every_code_has_the_agreed_class(kind: Kind) -> None:
    assert {code: TABLE[code].kind for code in EXPECTED[kind]} == dict.fromkeys(EXPECTED[kind], kind)


def test_the_table_holds_nothing_else() -> None:
    assert set(TABLE) == {code for codes in EXPECTED.values() for code in codes}
    assert set(EXPECTED) == set(Kind)


@pytest.mark.parametrize("meaning", {*TABLE.values(), *EDGE.values()}, ids=lambda meaning: meaning.title)
def test_words_are_sentences_for_people(meaning: object) -> None:
    title, advice = meaning.title, meaning.advice  # type: ignore[attr-defined]  # a Meaning
    assert 0 < len(title) <= 90
    assert title[-1] not in ".!"
    assert advice[-1] == "."
    assert not any(char.isdigit() for char in title.replace("24 hours", ""))


def test_the_real_code_may_hide_in_the_subcode() -> None:
    assert classify(100, subcode=2388293).kind is Kind.BUG
    assert classify(100, subcode=33).kind is Kind.STOP_NUMBER
    assert classify(192, subcode=2388318).kind is Kind.BAD_MESSAGE
    # A subcode of a token error is not a code of its own.
    assert classify(190, subcode=463).kind is Kind.STOP_CREDENTIAL
    assert classify(100, subcode=999_999).kind is Kind.BUG


def test_unknown_codes_are_judged_by_the_status() -> None:
    assert not is_known(987_654)
    assert classify(987_654, http_status=400).kind is Kind.BAD_MESSAGE
    assert classify(987_654, http_status=503).kind is Kind.RECONCILE
    assert classify(987_654).kind is Kind.BAD_MESSAGE
    assert classify(None, http_status=502).kind is Kind.RECONCILE
    assert classify(None, http_status=421).kind is Kind.RETRY
    assert classify(None, http_status=429).kind is Kind.LIMIT_APP
    assert classify(None, http_status=408).kind is Kind.RECONCILE
    assert classify(None, http_status=404).kind is Kind.BAD_MESSAGE


def test_a_transient_refusal_is_not_taken_as_final() -> None:
    assert classify(100, http_status=400, is_transient=True).kind is Kind.RECONCILE
    assert classify(190, http_status=401, is_transient=True).kind is Kind.STOP_CREDENTIAL
    assert classify(130429, http_status=400, is_transient=True).kind is Kind.LIMIT_NUMBER


def test_stops_that_waiting_cannot_cure_are_final() -> None:
    final = {code for code, row in TABLE.items() if row.kind in STOPS and row.final}
    assert final == {131048, 131064, 133016, 2388019}


@given(st.one_of(st.none(), st.integers()), st.text(), st.one_of(st.none(), st.integers()))
def test_explain_always_has_words(code: int | None, details: str, subcode: int | None) -> None:
    error = explain(code, details, subcode=subcode)
    assert error.title
    assert error.advice
    assert error.meta_code == code
    assert len(error.advice) < 400 + QUOTE_MAX_CHARS


def test_meta_is_quoted_only_where_it_helps() -> None:
    assert "“Text is\ttoo long”" not in explain(131009, "Text is\ttoo long").advice
    assert "“Text is too long”" in explain(131009, "Text is\ttoo long").advice
    assert "secret" not in explain(190, "secret").advice
