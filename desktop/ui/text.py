"""Text as people see it: direction, isolation, grapheme clusters, initials.

Qt counts UTF-16 units where Python counts code points; `utf16_length` and `Utf16Map` translate.
"""

import re
import unicodedata
from bisect import bisect_left
from functools import lru_cache
from typing import Final

from PySide6.QtGui import QTextLayout

FSI: Final = "\u2068"
LRI: Final = "\u2066"
PDI: Final = "\u2069"
ZWNJ: Final = "\u200c"

_EMOJI_BASE: Final = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf"
    "\u2934\u2935\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f004\U0001f0cf\U0001f170-\U0001f19a"
    "\U0001f201-\U0001f265\U0001f300-\U0001faff]"
)
_EMOJI_ONE: Final = f"{_EMOJI_BASE}\ufe0f?[\U0001f3fb-\U0001f3ff]?[\U000e0020-\U000e007f]*"
_EMOJI_CLUSTER: Final = re.compile(
    f"(?:[\U0001f1e6-\U0001f1ff]{{2}}|[#*0-9]\ufe0f?\u20e3|{_EMOJI_ONE}(?:\u200d{_EMOJI_ONE})*)"
)
_BIG_EMOJI_MAX: Final = 3


def isolate(text: str) -> str:
    """A name inside another sentence: its direction does not disturb the words around it."""
    return f"{FSI}{text}{PDI}"


def left_to_right(text: str) -> str:
    """A phone number, link or code inside another sentence: always read from left to right."""
    return f"{LRI}{text}{PDI}"


def is_right_to_left(text: str) -> bool:
    """Whether the first strong character is one of a right-to-left script."""
    for char in text:
        match unicodedata.bidirectional(char):
            case "L":
                return False
            case "R" | "AL":
                return True
    return False


def big_emoji_count(text: str) -> int:
    """How many emoji a message has that consists of one to three of them alone; otherwise 0."""
    stripped = text.strip()
    if not stripped or len(stripped) > 40 or stripped[0].isalpha():
        return 0
    count = position = 0
    while position < len(stripped):
        if stripped[position].isspace():
            position += 1
            continue
        match = _EMOJI_CLUSTER.match(stripped, position)
        if match is None or count == _BIG_EMOJI_MAX:
            return 0
        count += 1
        position = match.end()
    return count


def utf16_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


class Utf16Map:
    """Translates between positions in a Python string and in Qt's UTF-16 form of it."""

    __slots__ = ("_astral", "_pairs")

    def __init__(self, text: str) -> None:
        # Where the characters of two units are, in Python's count and in Qt's.
        self._astral = [] if text.isascii() else [at for at, char in enumerate(text) if char > "\uffff"]
        self._pairs = [at + before for before, at in enumerate(self._astral)]

    def to_qt(self, position: int) -> int:
        return position + bisect_left(self._astral, position)

    def to_python(self, position: int) -> int:
        """A position inside a surrogate pair counts as before it."""
        return position - bisect_left(self._pairs, position)


def first_grapheme(text: str) -> str:
    """The first thing a reader sees as one character, as '👩‍👧' or 'é'."""
    if not text:
        return ""
    end = QTextLayout(text).nextCursorPosition(0)
    return text.encode("utf-16-le")[: end * 2].decode("utf-16-le")


@lru_cache(maxsize=4096)
def initials(name: str) -> str:
    """One or two letters for an avatar; "" if the name has nothing to show (as a bare phone number).

    Scripts that write a name without spaces give one character; Arabic letters are kept from joining.
    """
    words = [word for word in name.split() if word[0].isalpha()]
    if not words:
        stripped = name.strip()
        return (
            first_grapheme(stripped) if _EMOJI_CLUSTER.match(stripped) and not stripped[0].isdigit() else ""
        )
    first = first_grapheme(words[0])
    if len(words) == 1 or _is_ideograph(first[0]):
        return first.upper()
    return f"{first}{ZWNJ if is_right_to_left(first) else ''}{first_grapheme(words[-1])}".upper()


def _is_ideograph(char: str) -> bool:
    return unicodedata.east_asian_width(char) in {"W", "F"}
