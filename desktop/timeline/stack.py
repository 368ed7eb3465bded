"""Where the elements are: their tops, which are visible, and the anchor that keeps the reader's place."""

from bisect import bisect_right
from typing import NamedTuple
from uuid import UUID

from desktop.timeline.elements.base import Element
from desktop.timeline.elements.bubble import MessageElement
from desktop.timeline.metrics import Metrics


class Anchor(NamedTuple):
    """The reader's place. `at_end`: stay at the end. Otherwise the visible messages with their distance
    from the top of the view, best first: the first that still exists is put where it was."""

    at_end: bool
    places: tuple[tuple[UUID | str, int], ...] = ()


class Stack:
    """Elements from top to bottom with no gaps between them."""

    def __init__(self) -> None:
        self.elements: list[Element] = []
        self.tops: list[int] = []
        self.height = 0
        self._index: dict[UUID | str, int] = {}

    def replace(self, elements: list[Element], width: int, metrics: Metrics) -> None:
        self.elements = elements
        self._index = {element.key: index for index, element in enumerate(elements)}
        self.lay_out(width, metrics)

    def lay_out(self, width: int, metrics: Metrics) -> None:
        top = 0
        tops = []
        for element in self.elements:
            tops.append(top)
            top += element.resize(width, metrics)
        self.tops = tops
        self.height = top

    def index_of(self, key: UUID | str) -> int | None:
        return self._index.get(key)

    def index_at(self, y: float) -> int | None:
        """The element at content position `y`; the nearest one outside; None if there is none."""
        if not self.elements:
            return None
        return max(0, bisect_right(self.tops, y) - 1)

    def visible(self, top: float, bottom: float) -> range:
        """Indices of the elements that touch [top, bottom)."""
        if not self.elements or bottom <= 0 or top >= self.height:
            return range(0)
        first = max(0, bisect_right(self.tops, top) - 1)
        return range(first, bisect_right(self.tops, bottom - 1))

    def anchor(self, scroll: int, view_height: int, *, at_end: bool) -> Anchor:
        """The place of a reader who sees [scroll, scroll + view_height)."""
        if at_end:
            return Anchor(at_end=True)
        seen = self.visible(scroll, scroll + view_height)
        places = [
            (element.key, self.tops[index] - scroll)
            for index in seen
            if isinstance(element := self.elements[index], MessageElement)
        ]
        # A message whose top is on screen is a better hold than one that begins above it.
        places.sort(key=lambda place: (place[1] < 0, place[1]))
        return Anchor(at_end=False, places=tuple(places))

    def scroll_for(self, anchor: Anchor) -> int | None:
        """The scroll position that puts the anchor where it was; None if all of it is gone."""
        for key, distance in anchor.places:
            index = self._index.get(key)
            if index is not None:
                return self.tops[index] - distance
        return None
