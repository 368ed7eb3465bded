"""Reading Meta's messages and statuses, whatever is missing in them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.meta.webhooks import Identities, UnreadableError, meta_time, read_message, read_status
from shared.content import TextContent, UnknownContent

RECEIVED = datetime(2026, 9, 21, 12, 0, tzinfo=UTC)
SENT = datetime(2026, 9, 21, 11, 59, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    "value", ["1790078390", 1790078390, 1790078390.0, 1790078390_000, "1790078390000", " 1790078390 "]
)
def test_times_in_every_form_meta_uses(value: object) -> None:
    sent = datetime.fromtimestamp(1790078390, UTC)
    assert meta_time(value, sent + timedelta(seconds=5)) == sent


@pytest.mark.parametrize(
    "value", [None, "", "soon", [], {}, True, "nan", "inf", -5, 0, "9" * 400, 4_000_000_000, 1e300]
)
def test_a_time_that_makes_no_sense_counts_as_the_arrival(value: object) -> None:
    assert meta_time(value, RECEIVED) == RECEIVED


def test_a_text_message_in_full() -> None:
    message = {
        "from": "4915550100200",
        "from_user_id": "DE.1",
        "from_parent_user_id": "DE.ENT.1",
        "id": "wamid.1",
        "timestamp": str(int(SENT.timestamp())),
        "type": "text",
        "text": {"body": "Guten Tag"},
        "context": {"from": "1555", "id": "wamid.0"},
    }
    contact = {"profile": {"name": "Änne", "username": "aenne"}, "wa_id": "4915550100200", "user_id": "DE.1"}
    facts = read_message(message, contact, RECEIVED)
    assert facts.sender == Identities("DE.1", "4915550100200", "DE.ENT.1", "aenne")
    assert (facts.wamid, facts.profile_name, facts.sent_at) == ("wamid.1", "Änne", SENT)
    assert facts.content == TextContent("Guten Tag")
    assert facts.reply_to_wamid == "wamid.0"


def test_any_other_type_keeps_what_meta_sent() -> None:
    message = {"from": "49155", "id": "wamid.1", "type": "hologram", "hologram": {"depth": 3}}
    facts = read_message(message, None, RECEIVED)
    assert facts.content == UnknownContent("hologram", message)
    assert facts.sent_at == RECEIVED


@pytest.mark.parametrize("text", [None, "hi", {}, {"body": None}, {"body": 5}])
def test_a_text_message_without_text_is_still_shown(text: object) -> None:
    message = {"from": "49155", "id": "wamid.1", "type": "text", "text": text}
    assert read_message(message, None, RECEIVED).content == UnknownContent("text", message)


def test_the_contact_fills_in_what_the_message_leaves_out() -> None:
    message = {"from_user_id": "DE.1", "id": "wamid.1", "type": "text", "text": {"body": "x"}}
    contact = {"user_id": "DE.1", "wa_id": "49155", "parent_user_id": "DE.ENT.2"}
    facts = read_message(message, contact, RECEIVED)
    assert facts.sender == Identities("DE.1", "49155", "DE.ENT.2", None)


def test_a_system_message_about_a_new_bsuid_belongs_to_the_previous_one() -> None:
    system = {"type": "user_changed_user_id", "user_id": "DE.2", "previous_user_id": "DE.1"}
    facts = read_message({"id": "wamid.1", "type": "system", "system": system}, None, RECEIVED)
    assert facts.sender.bsuid == "DE.1"


def test_a_message_must_have_an_id_and_a_sender() -> None:
    with pytest.raises(UnreadableError):
        read_message({"from": "49155", "type": "text"}, None, RECEIVED)
    with pytest.raises(UnreadableError):
        read_message({"id": "wamid.1", "type": "text"}, None, RECEIVED)


def test_a_status_names_its_recipient_by_any_of_the_fields() -> None:
    status = {
        "id": "wamid.9",
        "status": "delivered",
        "timestamp": "1790078390",
        "recipient_id": "49155",
        "recipient_user_id": "DE.1",
        "parent_recipient_user_id": "DE.ENT.1",
        "biz_opaque_callback_data": "r1.x",
    }
    facts = read_status(status, None, RECEIVED)
    assert facts.recipient == Identities("DE.1", "49155", "DE.ENT.1", None)
    assert (facts.status, facts.callback_data) == ("delivered", "r1.x")


def test_a_groups_status_names_no_person() -> None:
    status = {"id": "wamid.9", "status": "read", "recipient_id": "Y2Fw", "recipient_type": "group"}
    assert read_status(status, None, RECEIVED).recipient is None


_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_any = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner), max_leaves=4
)
_message_fields = ["id", "from", "from_user_id", "timestamp", "type", "text", "context", "system", "status"]
_objects = st.dictionaries(st.sampled_from([*_message_fields, "recipient_id", "recipient_type"]), _any)
_contacts = st.none() | st.dictionaries(st.sampled_from(["profile", "wa_id", "user_id"]), _any)


@settings(max_examples=100, deadline=None)
@given(_objects, _contacts)
def test_any_object_is_read_or_refused(thing: dict[str, Any], contact: dict[str, Any] | None) -> None:
    for read in (read_message, read_status):
        try:
            facts = read(thing, contact, RECEIVED)
        except UnreadableError:
            continue
        assert facts.wamid
