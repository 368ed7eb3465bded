"""Reading Meta's answers: the documented envelope and everything else that has been seen."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.meta.error_table import Kind
from relay.meta.graph import Accepted, Credentials, Refused, SendResult, Unknown, read_answer


def read(status: int, body: object, **headers: str) -> SendResult:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def test_accepted_by_phone_number() -> None:
    contacts = [{"input": "+4915550100200", "wa_id": "4915550100200", "user_id": "DE.1"}]
    body = {"messaging_product": "whatsapp", "contacts": contacts, "messages": [{"id": "wamid.A"}]}
    assert read(200, body) == Accepted("wamid.A", wa_id="4915550100200", user_id="DE.1")


def test_accepted_without_contacts() -> None:
    assert read(200, {"messages": [{"id": "wamid.A"}]}) == Accepted("wamid.A")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b"<html>",
        b"[]",
        {},
        {"messages": []},
        {"messages": [{}]},
        {"messages": [{"id": ""}]},
        {"messages": 1},
    ],
)
def test_a_success_without_a_message_id_is_unknown(body: object) -> None:
    assert isinstance(read(200, body), Unknown)


def test_refused_in_the_envelope() -> None:
    error = {
        "message": "(#131056) pair rate limit hit",
        "type": "OAuthException",
        "code": 131056,
        "error_data": {"messaging_product": "whatsapp", "details": "Too many messages to this recipient."},
        "fbtrace_id": "AbC",
    }
    result = read(400, {"error": error})
    assert result == Refused(400, 131056, details="Too many messages to this recipient.", trace_id="AbC")
    assert isinstance(result, Refused)
    assert result.meaning.kind is Kind.LIMIT_PAIR


@pytest.mark.parametrize(
    ("error", "details"),
    [
        ({"error_data": '{"details": "inside a string"}', "message": "m"}, "inside a string"),
        ({"error_data": "a bare string", "message": "m"}, "a bare string"),
        ({"error_data": {}, "error_user_msg": "for users", "message": "m"}, "for users"),
        ({"error_data": None, "message": "m"}, "m"),
        ({"error_data": 7}, ""),
        ({"error_data": {"details": 7}, "message": "m"}, "m"),
    ],
)
def test_details_are_found_wherever_they_are(error: dict[str, Any], details: str) -> None:
    result = read(400, {"error": {"code": 100, **error}})
    assert isinstance(result, Refused)
    assert result.details == details


def test_an_envelope_counts_whatever_the_status() -> None:
    transient = read(500, {"error": {"code": 131057}})
    assert isinstance(transient, Refused)
    assert transient.meaning.kind is Kind.RETRY
    inside_success = read(200, {"error": {"code": "190", "error_subcode": 463}})
    assert inside_success == Refused(200, 190, 463)


def test_without_the_envelope_the_status_decides() -> None:
    assert isinstance(read(502, b"<html>Bad gateway</html>"), Unknown)
    assert isinstance(read(500, b""), Unknown)
    assert isinstance(read(302, b""), Unknown)
    for status, kind in {
        404: Kind.BAD_MESSAGE,
        421: Kind.RETRY,
        429: Kind.LIMIT_APP,
        408: Kind.RECONCILE,
    }.items():
        result = read(status, b"<html>")
        assert isinstance(result, Refused)
        assert (result.code, result.meaning.kind) == (None, kind)


def test_how_long_to_wait() -> None:
    def wait(**headers: str) -> float | None:
        result = read(400, {"error": {"code": 80007}}, **headers)
        assert isinstance(result, Refused)
        return result.retry_after

    usage = {
        "48": [{"estimated_time_to_regain_access": 0}, {"estimated_time_to_regain_access": 7}],
        "49": "odd",
    }
    assert wait() is None
    assert wait(retry_after="12") == 12
    assert wait(retry_after="-1") == 0
    assert wait(retry_after="999999") == 3600
    assert wait(retry_after="Wed, 21 Oct 2026 07:28:00 GMT") is None
    assert wait(x_business_use_case_usage=json.dumps(usage)) == 420
    assert wait(x_business_use_case_usage="{") is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "messages", "contacts", "id", "code", "error_data", "details", "wa_id"])
            | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.integers(200, 599), _JSON)
def test_no_answer_breaks_the_reader(status: int, document: object) -> None:
    result = read(status, document)
    assert isinstance(result, Accepted | Refused | Unknown)
    if isinstance(result, Accepted):
        assert 200 <= status < 300


@given(st.integers(200, 599), st.binary(), st.text())
def test_no_bytes_break_the_reader(status: int, body: bytes, header: str) -> None:
    headers = {"retry-after": header, "x-business-use-case-usage": header}
    assert isinstance(read_answer(status, headers, body), Refused | Unknown)


def test_printing_credentials_does_not_show_the_token() -> None:
    assert "EAAtoken" not in repr(Credentials("720193847561029", "EAAtoken"))
