"""Taking webhook bodies apart: everything becomes a piece, nothing spoils its siblings."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.inbound.split import EnvelopeError, Piece, is_json, split

NUMBER = {"display_phone_number": "15550102030", "phone_number_id": "720193847561029"}


def body(*values: dict[str, Any], field: str = "messages", waba_id: str = "48201") -> bytes:
    changes = [{"field": field, "value": value} for value in values]
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": waba_id, "changes": changes}]}
    ).encode()


def text_message(wamid: str, sender: str = "4915550100200", **more: Any) -> dict[str, Any]:
    return {
        "from": sender,
        "id": wamid,
        "timestamp": "1790000000",
        "type": "text",
        "text": {"body": "hi"},
        **more,
    }


def kinds(pieces: list[Piece]) -> list[str]:
    return [piece.kind for piece in pieces]


def test_every_message_status_and_error_of_every_entry_is_a_piece() -> None:
    value = {
        "messaging_product": "whatsapp",
        "metadata": NUMBER,
        "contacts": [],
        "messages": [text_message("wamid.1"), text_message("wamid.2")],
        "statuses": [{"id": "wamid.9", "status": "sent", "recipient_id": "49155"}],
        "errors": [{"code": 130429}],
    }
    envelope = json.loads(body(value, value))
    envelope["entry"] *= 2
    pieces = split(json.dumps(envelope).encode())
    assert kinds(pieces) == ["message", "message", "status", "error"] * 4
    assert {piece.phone_number_id for piece in pieces} == {"720193847561029"}
    assert {piece.waba_id for piece in pieces} == {"48201"}


def test_contacts_are_matched_by_bsuid_then_phone_and_never_by_place() -> None:
    contacts = [
        {"profile": {"name": "Phone only"}, "wa_id": "222"},
        {"profile": {"name": "Same phone, other person"}, "wa_id": "111", "user_id": "DE.other"},
        {"profile": {"name": "By BSUID"}, "wa_id": "999", "user_id": "DE.1"},
    ]
    messages = [
        text_message("wamid.1", "111", from_user_id="DE.1"),
        text_message("wamid.2", "222"),
        text_message("wamid.3", "333"),
        text_message("wamid.4", "222", from_user_id="DE.4"),
    ]
    pieces = split(body({"metadata": NUMBER, "contacts": contacts, "messages": messages}))
    names = [piece.payload.get("contact", {}).get("profile", {}).get("name") for piece in pieces]
    assert names == ["By BSUID", "Phone only", None, "Phone only"]
    assert pieces[0].people == ("bsuid:DE.1", "phone:111")
    assert pieces[3].people == ("bsuid:DE.4", "phone:222")


def test_unknown_fields_are_kept_whole() -> None:
    value = {"event": "APPROVED", "message_template_id": 2**70}
    (piece,) = split(body(value, field="something_new"))
    assert (piece.kind, piece.field, piece.problem) == ("change", "something_new", "")
    assert piece.payload["value"] == value


def test_unknown_parts_of_a_messages_value_are_kept_beside_the_messages() -> None:
    value = {"metadata": NUMBER, "messages": [text_message("wamid.1")], "user_actions": [{"action": "click"}]}
    message, rest = split(body(value))
    assert (message.kind, rest.kind) == ("message", "change")
    assert rest.payload["value"]["user_actions"] == [{"action": "click"}]


def test_malformed_parts_do_not_spoil_their_siblings() -> None:
    value = {"metadata": NUMBER, "messages": [None, text_message("wamid.1"), 7], "statuses": "what"}
    envelope = json.loads(body(value))
    envelope["entry"][0]["changes"] += [None, {"field": "messages", "value": []}]
    envelope["entry"] += ["nonsense", {"id": "48201"}]
    pieces = split(json.dumps(envelope).encode())
    assert [bool(piece.problem) for piece in pieces] == [True, False, True, True, True, True, True, True]
    assert [piece.payload["message"]["id"] for piece in pieces if not piece.problem] == ["wamid.1"]


def test_group_messages_do_not_go_to_their_sender() -> None:
    (piece,) = split(body({"metadata": NUMBER, "messages": [text_message("wamid.1", group_id="Y2Fw")]}))
    assert piece.kind == "change"


def test_statuses_without_a_recipient_stay_with_their_message() -> None:
    statuses = [{"id": "wamid.9", "status": status} for status in ("sent", "read")]
    first, second = split(body({"metadata": NUMBER, "statuses": statuses}))
    assert first.people == second.people == ("wamid:wamid.9",)


def test_text_that_the_database_cannot_store_is_mended() -> None:
    raw = body({"metadata": NUMBER, "messages": [text_message("wamid.1", text={"body": "BODY"})]})
    for written, meant in ((rb"a\u0000b", "a�b"), (rb"a\ud83d", "a�"), (rb"\ud83d\ude00", "😀")):
        spoilt = raw.replace(b"BODY", written)
        assert is_json(spoilt)
        (piece,) = split(spoilt)
        assert piece.payload["message"]["text"]["body"] == meant


@pytest.mark.parametrize("nonsense", [b"", b"{", b"nope", b"NaN", b"{} {}", b"[" * 100_000, b"\xff\xfe"])
def test_what_is_not_json_is_recognised(nonsense: bytes) -> None:
    assert not is_json(nonsense)
    with pytest.raises(EnvelopeError):
        split(nonsense)


@pytest.mark.parametrize("odd", [b"[]", b"1", b'"x"', b"null", b"{}", b'{"entry": {}}'])
def test_json_that_is_no_webhook_is_refused_as_a_whole(odd: bytes) -> None:
    assert is_json(odd)
    with pytest.raises(EnvelopeError):
        split(odd)


_names = st.sampled_from(
    [
        "entry",
        "changes",
        "field",
        "value",
        "metadata",
        "phone_number_id",
        "contacts",
        "messages",
        "statuses",
        "errors",
        "id",
        "from",
        "from_user_id",
        "group_id",
        "user_id",
        "wa_id",
        "recipient_type",
        "system",
    ]
)
_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("messages")
_json = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names | st.text(), inner, max_size=6),
    max_leaves=15,
)
_things = st.lists(_json, max_size=4)
_values = _json | st.fixed_dictionaries(
    {},
    optional={
        "metadata": _json | st.just(NUMBER),
        "contacts": _json | _things,
        "messages": _json | _things,
        "statuses": _json | _things,
        "errors": _json | _things,
    },
)
_changes = _json | st.fixed_dictionaries({"field": _json | st.just("messages"), "value": _values})
_entries = _json | st.fixed_dictionaries({"id": _json, "changes": st.lists(_changes, max_size=3) | _json})
_bodies = _json | st.fixed_dictionaries({"entry": st.lists(_entries, max_size=3)})


@settings(max_examples=100, deadline=None)
@given(_bodies)
def test_any_json_is_split_or_refused_and_the_pieces_can_be_stored(document: Any) -> None:
    raw = json.dumps(document).encode()
    try:
        pieces = split(raw)
    except EnvelopeError:
        return
    assert is_json(raw)
    for piece in pieces:
        stored = msgspec.json.encode(piece.payload)
        assert b"\\u0000" not in stored
        assert json.loads(stored) == piece.payload or "nan" in repr(piece.payload)
        if piece.kind in ("message", "status") and not piece.problem:
            assert piece.people


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_split_or_refused(raw: bytes) -> None:
    try:
        split(raw)
    except EnvelopeError:
        return
    assert is_json(raw)
