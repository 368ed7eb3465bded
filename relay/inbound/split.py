"""Taking a webhook's body apart: every message, status, error and other change becomes one piece.

Pure and total: any JSON gives pieces or one `EnvelopeError`; a malformed part spoils none of its siblings.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple, NoReturn

import msgspec

from relay.meta.webhooks import Object, matching_contact, recipient_of, sender_of

Kind = Literal["message", "status", "error", "change"]

_ENVELOPE_OF_MESSAGES: Final = frozenset({"messaging_product", "metadata", "contacts"})
_LISTS_OF_MESSAGES: Final[dict[str, Kind]] = {"messages": "message", "statuses": "status", "errors": "error"}
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

_raw = msgspec.json.Decoder(msgspec.Raw)


class EnvelopeError(ValueError):
    """The body is not a webhook of Meta's at all."""


class Piece(NamedTuple):
    """One thing that happened.

    `people` are the identities of the customer concerned, strongest first: whatever shares one of them on one
    number is worked on in order. `problem` says why a piece cannot be used as it is.
    """

    field: str
    kind: Kind
    waba_id: str
    phone_number_id: str
    people: tuple[str, ...]
    payload: Object
    problem: str = ""


def is_json(body: bytes) -> bool:
    """Whether the body can be taken apart later; lone surrogates, which Meta does send, are allowed."""
    try:
        _raw.decode(body)
    except (msgspec.DecodeError, RecursionError):
        try:
            _lenient(body)
        except (ValueError, RecursionError):
            return False
    return True


def split(body: bytes) -> list[Piece]:
    """The pieces of a webhook in the order of the body. Raises EnvelopeError."""
    envelope = _parse(body)
    entries = envelope.get("entry") if isinstance(envelope, dict) else None
    if not isinstance(entries, list):
        raise EnvelopeError("the body has no list of entries")
    return [piece for entry in entries for piece in _entry(entry)]


def _parse(body: bytes) -> Any:
    try:
        document = msgspec.json.decode(body)
        exotic = b"\\u0000" in body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        exotic = True
        try:
            document = _lenient(body)
        except (ValueError, RecursionError) as error:
            raise EnvelopeError(f"the body is not JSON: {error}") from error
    try:
        return _storable(document) if exotic else document
    except RecursionError as error:
        raise EnvelopeError("the body is nested too deeply") from error


def _lenient(body: bytes) -> Any:
    return json.loads(body.decode("utf-8", "replace"), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _storable(value: Any) -> Any:
    """The same document without what Postgres cannot keep: NUL, half characters, numbers out of range."""
    match value:
        case str():
            return (
                value.replace("\0", _REPLACEMENT)
                .encode("utf-16", "surrogatepass")
                .decode("utf-16", "replace")
            )
        case list():
            return [_storable(item) for item in value]
        case dict():
            return {_storable(key): _storable(item) for key, item in value.items()}
        case float() if not math.isfinite(value):
            return str(value)
    return value


def _entry(entry: Any) -> Iterator[Piece]:
    if not isinstance(entry, dict):
        yield _malformed("", "", entry, "the entry is not an object")
        return
    waba_id = _id(entry.get("id"))
    changes = entry.get("changes")
    if not isinstance(changes, list):
        yield _malformed("", waba_id, entry, "the entry has no list of changes")
        return
    for change in changes:
        if not isinstance(change, dict):
            yield _malformed("", waba_id, change, "the change is not an object")
            continue
        name = change.get("field")
        yield from _change(
            name if isinstance(name, str) else "", waba_id, change.get("value"), entry.get("time")
        )


def _change(field: str, waba_id: str, value: Any, time: Any) -> Iterator[Piece]:
    if not isinstance(value, dict):
        yield _malformed(field, waba_id, value, "the change has no value")
        return
    metadata = value.get("metadata")
    phone_number_id = _id(metadata.get("phone_number_id")) if isinstance(metadata, dict) else ""
    if field != "messages":
        yield Piece(field, "change", waba_id, phone_number_id, (), {"value": value, "time": time})
        return
    contacts = value.get("contacts")
    known = (
        [contact for contact in contacts if isinstance(contact, dict)] if isinstance(contacts, list) else []
    )
    for name, kind in _LISTS_OF_MESSAGES.items():
        for item in _items(value, name):
            yield _item(kind, waba_id, phone_number_id, item, known)
    rest = value.keys() - _ENVELOPE_OF_MESSAGES - _LISTS_OF_MESSAGES.keys()
    if rest or not value.keys() & _LISTS_OF_MESSAGES.keys():
        yield Piece(field, "change", waba_id, phone_number_id, (), {"value": value, "time": time})


def _items(value: Object, name: str) -> list[Any]:
    """The items of a list; something else under its name is one (malformed) item."""
    if name not in value:
        return []
    found = value[name]
    return found if isinstance(found, list) else [found]


def _item(kind: Kind, waba_id: str, phone_number_id: str, item: Any, contacts: list[Object]) -> Piece:
    if not isinstance(item, dict):
        problem = f"the {kind} is not an object"
        return _malformed("messages", waba_id, item, problem)._replace(
            kind=kind, phone_number_id=phone_number_id
        )
    payload: Object = {kind: item}
    if kind == "error":
        return Piece("messages", kind, waba_id, phone_number_id, (), payload)
    if kind == "message" and "group_id" in item:
        # Not of the sender's own conversation, and groups are not shown yet.
        return Piece("messages", "change", waba_id, phone_number_id, (), payload)
    find = sender_of if kind == "message" else recipient_of
    person = find(item, None)
    contact = None if person is None else matching_contact(contacts, person.bsuid, person.phone)
    if contact is not None:
        payload["contact"] = contact
        person = find(item, contact)
    if person is None:
        # A group, or nobody named: its wamid keeps the statuses of one message in order.
        return Piece("messages", kind, waba_id, phone_number_id, (f"wamid:{item.get('id')}",), payload)
    named = (("bsuid", person.bsuid), ("phone", person.phone), ("parent", person.parent_bsuid))
    people = tuple(f"{name}:{value}" for name, value in named if value)
    return Piece("messages", kind, waba_id, phone_number_id, people, payload)


def _malformed(field: str, waba_id: str, part: Any, problem: str) -> Piece:
    return Piece(field, "change", waba_id, "", (), {"malformed": part}, problem)


def _id(value: Any) -> str:
    """One of Meta's ids: a text, or a number where an API differs; '' if there is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""
