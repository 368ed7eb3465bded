"""The body of `POST /{phone_number_id}/messages`, checked as Meta checks it before it accepts anything."""

import re
from dataclasses import dataclass
from typing import Any, Final

from relay.sandbox.errors import GraphError, invalid
from shared.limits import TEXT_MAX_CHARS

CALLBACK_DATA_MAX_CHARS: Final = 512

_FRAME: Final = frozenset(
    {
        "messaging_product", "recipient_type", "to", "recipient", "type", "context",
        "biz_opaque_callback_data", "recipient_identity_key_hash",
    }
)  # fmt: skip
TYPES: Final = (
    "text", "image", "video", "audio", "document", "sticker", "location", "contacts", "reaction",
    "interactive", "template",
)  # fmt: skip
_PHONE: Final = re.compile(r"\+?\d[\d\s()-]*")
_BSUID: Final = re.compile(r"[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}")


@dataclass(frozen=True, slots=True)
class TextMessage:
    """A send that passed. Either `phone` (digits) or `bsuid` is set; `to` is what the caller wrote."""

    to: str
    phone: str | None
    bsuid: str | None
    body: str
    context: str | None
    callback_data: str | None


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    message_id: str
    typing: bool


def parse(params: dict[str, Any]) -> TextMessage | ReadReceipt:
    """What the call asks for. GraphError with Meta's code for everything Meta refuses at once."""
    if "messaging_product" not in params:
        raise invalid("The parameter messaging_product is required.")
    if params["messaging_product"] != "whatsapp":
        raise invalid(
            "Param messaging_product must be one of {WHATSAPP} - got " + _shown(params["messaging_product"])
        )
    if "status" in params:
        return _read_receipt(params)
    return _message(params)


def _message(params: dict[str, Any]) -> TextMessage:
    kind = params.get("type", "text")
    if kind not in TYPES:
        raise invalid(
            f"Param type must be one of {{{', '.join(name.upper() for name in TYPES)}}} - got {_shown(kind)}"
        )
    _only_keys(params, _FRAME | {kind}, None)
    to, phone, bsuid = _recipient(params)
    if kind != "text":
        raise GraphError(131051, f"The sandbox does not emulate messages of type {kind} yet.")
    text = params.get("text")
    if text is None:
        raise GraphError(131008, "Parameter 'text' is mandatory for type 'text'.")
    text = _object(text, "text")
    _only_keys(text, frozenset({"body", "preview_url"}), "text")
    if not isinstance(text.get("preview_url", False), bool):
        raise invalid("Param text['preview_url'] must be a boolean.")
    if "body" not in text:
        raise GraphError(131008, "Parameter 'body' is mandatory for object 'text'.")
    body = _string(text["body"], "text['body']")
    if not body:
        raise invalid("Param text['body'] must be a non-empty string.")
    if len(body) > TEXT_MAX_CHARS:
        raise invalid(f"Param text['body'] must be at most {TEXT_MAX_CHARS} characters long.")
    return TextMessage(to, phone, bsuid, body, _context(params), _callback_data(params))


def _recipient(params: dict[str, Any]) -> tuple[str, str | None, str | None]:
    recipient_type = params.get("recipient_type", "individual")
    if recipient_type not in ("individual", "group"):
        raise invalid(
            f"Param recipient_type must be one of {{INDIVIDUAL, GROUP}} - got {_shown(recipient_type)}"
        )
    if recipient_type == "group":
        raise GraphError(131041, "The business is not a member of this group.")
    to = params.get("to")
    if isinstance(to, int) and not isinstance(to, bool):
        to = str(to)  # Graph takes numbers for strings
    if to is not None:  # and `recipient` is ignored
        to = _string(to, "to")
        digits = re.sub(r"\D", "", to, flags=re.ASCII)
        if not _PHONE.fullmatch(to.strip()) or not 5 <= len(digits) <= 15 or not digits.isascii():
            raise invalid("Param to must be a phone number in international format.")
        return to, digits, None
    recipient = params.get("recipient")
    if recipient is None:
        raise invalid("The parameter to is required.")
    recipient = _string(recipient, "recipient")
    if not _BSUID.fullmatch(recipient):
        raise invalid("Param recipient must be a business-scoped user id.")
    return recipient, None, recipient


def _context(params: dict[str, Any]) -> str | None:
    if params.get("context") is None:
        return None
    context = _object(params["context"], "context")
    _only_keys(context, frozenset({"message_id"}), "context")
    if "message_id" not in context:
        raise GraphError(131008, "Parameter 'message_id' is mandatory for object 'context'.")
    return _string(context["message_id"], "context['message_id']")


def _callback_data(params: dict[str, Any]) -> str | None:
    data = params.get("biz_opaque_callback_data")
    if data is None:
        return None
    data = _string(data, "biz_opaque_callback_data")
    if len(data) > CALLBACK_DATA_MAX_CHARS:
        raise invalid(
            f"Param biz_opaque_callback_data must be at most {CALLBACK_DATA_MAX_CHARS} characters long."
        )
    return data


def _read_receipt(params: dict[str, Any]) -> ReadReceipt:
    _only_keys(params, frozenset({"messaging_product", "status", "message_id", "typing_indicator"}), None)
    if params["status"] != "read":
        raise invalid(f"Param status must be one of {{READ}} - got {_shown(params['status'])}")
    if params.get("message_id") is None:
        raise GraphError(131008, "Parameter 'message_id' is mandatory for status 'read'.")
    typing = params.get("typing_indicator")
    if typing is not None:
        typing = _object(typing, "typing_indicator")
        _only_keys(typing, frozenset({"type"}), "typing_indicator")
        if typing.get("type") != "text":
            raise invalid("Param typing_indicator['type'] must be one of {TEXT}.")
    return ReadReceipt(_string(params["message_id"], "message_id"), typing is not None)


def _only_keys(mapping: dict[str, Any], known: frozenset[str], param: str | None) -> None:
    for key in mapping:
        if key not in known:
            where = f' on param "{param}"' if param else ""
            raise invalid(f'Unexpected key "{key}"{where}.')


def _object(value: Any, param: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"Param {param} must be a JSON object.")
    return value


def _string(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise invalid(f"Param {param} must be a string.")
    return value


def _shown(value: Any) -> str:
    return f'"{str(value)[:100]}".'
