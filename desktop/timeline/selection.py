"""The selected text: from a place in one message to a place in another, and what a copy of it says."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from desktop.timeline.elements.base import Element
from desktop.timeline.elements.bubble import MessageElement
from desktop.timeline.stack import Stack
from desktop.ui.times import moment_words


class Place(NamedTuple):
    """A place in the text of a message, in UTF-16 units."""

    key: UUID | str
    position: int


class Selection:
    """`anchor` stays where the selection began, `head` follows the pointer. Empty while they are equal."""

    def __init__(self) -> None:
        self.anchor: Place | None = None
        self.head: Place | None = None

    @property
    def is_empty(self) -> bool:
        return self.anchor is None or self.anchor == self.head

    def clear(self) -> None:
        self.anchor = self.head = None

    def start(self, place: Place) -> None:
        self.anchor = self.head = place

    def extend(self, place: Place) -> None:
        if self.anchor is None:
            self.anchor = place
        self.head = place

    def select(self, first: Place, last: Place) -> None:
        self.anchor, self.head = first, last

    def bounds(self, stack: Stack) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Two (element index, position), the upper first; None if nothing is selected or it is gone."""
        if self.anchor is None or self.head is None or self.anchor == self.head:
            return None
        first, last = stack.index_of(self.anchor.key), stack.index_of(self.head.key)
        if first is None or last is None:
            return None
        one, other = sorted(((first, self.anchor.position), (last, self.head.position)))
        return one, other

    def keys(self) -> set[UUID | str]:
        return {place.key for place in (self.anchor, self.head) if place is not None}


def part_of(
    bounds: tuple[tuple[int, int], tuple[int, int]] | None, index: int, element: Element
) -> tuple[int, int] | None:
    """Which part of the element at `index` is selected."""
    if bounds is None:
        return None
    (first, start), (last, end) = bounds
    if not first <= index <= last:
        return None
    return (start if index == first else 0), (end if index == last else element.text_length())


def copied_text(elements: Sequence[Element], bounds: tuple[tuple[int, int], tuple[int, int]] | None) -> str:
    """What a copy gives: the text alone within one message; with time and name before each for several."""
    if bounds is None:
        return ""
    parts: list[tuple[MessageElement, str]] = []
    for index in range(bounds[0][0], bounds[1][0] + 1):
        element = elements[index]
        part = part_of(bounds, index, element)
        if part is not None and part[0] < part[1] and isinstance(element, MessageElement):
            parts.append((element, element.selected_text(*part)))
    if len(parts) == 1:
        return parts[0][1]
    return "\n".join(
        f"[{moment_words(element.row.sent_at)}] {element.speaker()}: {text}" for element, text in parts
    )
