"""What a message says: one typed document per message type.

The `type` of a document is Meta's name for it. A type that this version does not know becomes
`UnknownContent`, which keeps what Meta sent, so that nothing a customer does is invisible.
"""

import re
from typing import Any

import msgspec

SUMMARY_MAX_CHARS = 160
_WHITESPACE = re.compile(r"\s+")


class TextContent(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """A text message, with WhatsApp's own marks for bold, italic, strike and monospace."""

    body: str


class UnknownContent(msgspec.Struct, frozen=True, tag_field="type", tag="unknown"):
    """A message of a type this version cannot show in full.

    `meta_type` is Meta's name for it, `raw` the message object as Meta sent it.
    """

    meta_type: str
    raw: dict[str, Any]


Content = TextContent | UnknownContent


def summary(content: Content) -> str:
    """One line for lists, notifications and search; at most `SUMMARY_MAX_CHARS` characters."""
    match content:
        case TextContent(body=body):
            line = _WHITESPACE.sub(" ", body).strip()
        case UnknownContent(meta_type=meta_type):
            line = f"Message of type “{meta_type}”"
    return line if len(line) <= SUMMARY_MAX_CHARS else line[: SUMMARY_MAX_CHARS - 1] + "…"
