"""WhatsApp's text marks: *bold*, _italic_, ~strike~, `code`, ```block```; and links.

`parse` takes the marks out and says which part of the remaining text has which style. A mark counts only as
WhatsApp counts it: it opens before a word and closes after one, on the same line (a block may span lines).
"""

import re
from collections import deque
from enum import Enum
from typing import Final, NamedTuple


class Style(Enum):
    BOLD = "*"
    ITALIC = "_"
    STRIKE = "~"
    CODE = "`"
    BLOCK = "```"
    LINK = "link"


class Span(NamedTuple):
    """`text[start:end]` has `style`; `target` is the address of a link."""

    start: int
    end: int
    style: Style
    target: str = ""


class Marked(NamedTuple):
    """The text without its marks, and its styles."""

    text: str
    spans: tuple[Span, ...]


_MARKS: Final = {style.value: style for style in (Style.BOLD, Style.ITALIC, Style.STRIKE)}
_ANY_MARK: Final = re.compile(r"[*_~`]|://|www\.|@")
_CODE: Final = re.compile(r"```(?P<block>(?:(?!```).)+)```|(?<![\w`])`(?P<code>[^`\n]+)`(?![\w`])", re.DOTALL)
_LINK: Final = re.compile(
    r"(?P<url>https?://[^\s<>\"“”]+|(?<![\w.@])www\.[^\s<>\"“”]+)"
    r"|(?<![\w.+-])(?P<mail>[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,4}\.[a-zA-Z]{2,24})(?![\w@-])"
)
_TRAILING: Final = ".,;:!?'’*_~`…"


def parse(body: str) -> Marked:
    """Split a message into text and styles. Every string is a valid message."""
    if _ANY_MARK.search(body) is None:
        return Marked(body, ())
    dropped: list[int] = []  # indices of characters that are marks, ascending at the end
    spans: list[Span] = []
    end_of_last = 0
    for found in _CODE.finditer(body):
        if (found["block"] or found["code"]).isspace():
            continue
        _parse_prose(body, end_of_last, found.start(), dropped, spans)
        _take_code(body, found, dropped, spans)
        end_of_last = found.end()
    _parse_prose(body, end_of_last, len(body), dropped, spans)
    if not dropped:
        return Marked(body, tuple(sorted(spans, key=_order)))
    return _without(body, dropped, spans)


def _take_code(body: str, found: re.Match[str], dropped: list[int], spans: list[Span]) -> None:
    style = Style.BLOCK if found["block"] else Style.CODE
    start, end = found.span("block" if style is Style.BLOCK else "code")
    if style is Style.BLOCK:
        # A line break right inside the fences belongs to the fences.
        start += body[start] == "\n"
        end -= body[end - 1] == "\n"
    dropped += range(found.start(), start)
    dropped += range(end, found.end())
    spans.append(Span(start, end, style))


def _parse_prose(body: str, start: int, end: int, dropped: list[int], spans: list[Span]) -> None:
    position = start
    for found in _LINK.finditer(body, start, end):
        link_end = _trimmed_end(body, found.start(), found.end())
        address = body[found.start() : link_end]
        if found["mail"]:
            target = f"mailto:{address}"
        else:
            target = address if "://" in address else f"https://{address}"
        spans.append(Span(found.start(), link_end, Style.LINK, target))
    links = deque(span for span in spans if span.style is Style.LINK and span.start >= start)
    open_marks: list[int] = []
    while position < end:
        if links and position == links[0].start:
            position = links.popleft().end
            continue
        char = body[position]
        if char == "\n":
            open_marks.clear()
        elif char in _MARKS:
            _take_mark(body, position, open_marks, dropped, spans)
        position += 1


def _take_mark(body: str, at: int, open_marks: list[int], dropped: list[int], spans: list[Span]) -> None:
    char = body[at]
    before = body[at - 1] if at else " "
    after = body[at + 1] if at + 1 < len(body) else " "
    if not before.isspace() and not after.isalnum():
        for depth in range(len(open_marks) - 1, -1, -1):
            opened = open_marks[depth]
            if body[opened] == char and at - opened > 1:
                del open_marks[depth:]
                dropped += (opened, at)
                spans.append(Span(opened + 1, at, _MARKS[char]))
                return
    if not before.isalnum() and not after.isspace() and after != char:
        # The nearest one counts, so at most one of each is open: `*a *b*` is a bold b.
        open_marks[:] = [opened for opened in open_marks if body[opened] != char]
        open_marks.append(at)


def _trimmed_end(body: str, start: int, end: int) -> int:
    """Without the punctuation that ends the sentence around a link; closing brackets only if unmatched."""
    while end > start:
        last = body[end - 1]
        if last in _TRAILING or (last == ")" and body.count("(", start, end) < body.count(")", start, end)):
            end -= 1
        else:
            break
    return end


def _without(body: str, dropped: list[int], spans: list[Span]) -> Marked:
    dropped_set = set(dropped)
    new_position: list[int] = []
    kept: list[str] = []
    for index, char in enumerate(body):
        new_position.append(len(kept))
        if index not in dropped_set:
            kept.append(char)
    new_position.append(len(kept))
    moved = (span._replace(start=new_position[span.start], end=new_position[span.end]) for span in spans)
    return Marked("".join(kept), tuple(sorted((s for s in moved if s.end > s.start), key=_order)))


def _order(span: Span) -> tuple[int, int]:
    return span.start, -span.end
