"""Reading what Meta puts into webhooks. Anything may be missing, of another type, or new to us.

Source: Meta, Cloud API webhooks reference, `messages` field.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from shared.content import Content, TextContent, UnknownContent

_MILLISECONDS_FROM: Final = 10**12
"""A Unix time from here on is in milliseconds; in seconds it would be the year 33658."""
_SECONDS_FROM: Final = 10**9
"""WhatsApp is younger than this Unix time (2001)."""
_FUTURE_TOLERANCE: Final = timedelta(days=1)

Object = dict[str, Any]


class UnreadableError(ValueError):
    """An object without which it makes no sense; no retry will help."""


class Identities(NamedTuple):
    """Who a message is from or a status is about. At least one is set; `phone` is digits only."""

    bsuid: str | None
    phone: str | None
    parent_bsuid: str | None
    username: str | None


class MessageFacts(NamedTuple):
    """An inbound message."""

    wamid: str
    sender: Identities
    profile_name: str
    sent_at: datetime
    content: Content
    reply_to_wamid: str | None


class StatusFacts(NamedTuple):
    """A status of an outbound message; `status` is Meta's word, known to us or not."""

    wamid: str
    status: str
    occurred_at: datetime
    recipient: Identities | None
    callback_data: str | None


def read_message(message: Object, contact: Object | None, received_at: datetime) -> MessageFacts:
    """A message and the entry of `contacts` that belongs to it. Raises UnreadableError."""
    wamid = _required(message, "id")
    sender = sender_of(message, contact)
    if sender is None:
        raise UnreadableError("the message names nobody as its sender")
    profile = _object(contact, "profile")
    return MessageFacts(
        wamid=wamid,
        sender=sender._replace(username=_text(profile, "username")),
        profile_name=_text(profile, "name") or "",
        sent_at=meta_time(message.get("timestamp"), received_at),
        content=_content(message),
        reply_to_wamid=_text(_object(message, "context"), "id"),
    )


def read_status(status: Object, contact: Object | None, received_at: datetime) -> StatusFacts:
    """A status. Raises UnreadableError."""
    return StatusFacts(
        wamid=_required(status, "id"),
        status=_required(status, "status"),
        occurred_at=meta_time(status.get("timestamp"), received_at),
        recipient=recipient_of(status, contact),
        callback_data=_text(status, "biz_opaque_callback_data"),
    )


def sender_of(message: Object, contact: Object | None) -> Identities | None:
    """Who sent a message; None if it does not say."""
    system = _object(message, "system")
    found = Identities(
        # A system message about a new BSUID belongs to the person known under the previous one.
        bsuid=_text(message, "from_user_id")
        or _text(contact, "user_id")
        or _text(system, "previous_user_id")
        or _text(system, "user_id"),
        phone=_phone(_text(message, "from") or _text(contact, "wa_id")),
        parent_bsuid=_text(message, "from_parent_user_id") or _text(contact, "parent_user_id"),
        username=None,
    )
    return found if any(found) else None


def recipient_of(status: Object, contact: Object | None) -> Identities | None:
    """The person a status is about; None for a group, or if it does not say."""
    if status.get("recipient_type") == "group":
        return None
    found = Identities(
        bsuid=_text(status, "recipient_user_id") or _text(contact, "user_id"),
        phone=_phone(_text(status, "recipient_id") or _text(contact, "wa_id")),
        parent_bsuid=_text(status, "recipient_parent_user_id")
        or _text(status, "parent_recipient_user_id")
        or _text(contact, "parent_user_id"),
        username=None,
    )
    return found if any(found) else None


def matching_contact(contacts: Sequence[Object], bsuid: str | None, phone: str | None) -> Object | None:
    """The entry of `contacts` for this person: by BSUID, else by phone; never by its place in the list."""
    if bsuid:
        for contact in contacts:
            if _text(contact, "user_id") == bsuid:
                return contact
    if phone:
        for contact in contacts:
            # An entry with another BSUID is somebody else, whatever its phone number says.
            theirs = _text(contact, "user_id")
            if _text(contact, "wa_id") == phone and not (bsuid and theirs):
                return contact
    return None


def meta_time(value: object, received_at: datetime) -> datetime:
    """A Unix time in seconds or milliseconds, as number or text; nonsense counts as `received_at`."""
    try:
        seconds = float(value) if isinstance(value, (str, int, float)) else 0.0
        if seconds >= _MILLISECONDS_FROM:
            seconds /= 1000
        at = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return received_at
    return at if seconds >= _SECONDS_FROM and at < received_at + _FUTURE_TOLERANCE else received_at


def _content(message: Object) -> Content:
    meta_type = _text(message, "type")
    body = _object(message, "text").get("body")
    if meta_type == "text" and isinstance(body, str):
        return TextContent(body)
    return UnknownContent(meta_type or "unknown", message)


def _text(source: Object | None, name: str) -> str | None:
    """A non-empty text, or an id that Meta sent as a number."""
    value = source.get(name) if source else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def _object(source: Object | None, name: str) -> Object:
    value = source.get(name) if source else None
    return value if isinstance(value, dict) else {}


def _phone(value: str | None) -> str | None:
    return value.removeprefix("+") if value else None


def _required(source: Object, name: str) -> str:
    value = _text(source, name)
    if value is None:
        raise UnreadableError(f"it has no {name}")
    return value
