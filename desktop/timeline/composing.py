"""From rows to elements: dividers between days, groups of bubbles, and the reuse of laid-out elements."""

from collections import OrderedDict
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from desktop.cache.rows import Edge, MessageRow
from desktop.timeline.elements.base import Element
from desktop.timeline.elements.bubble import MessageElement, Placement, Scene
from desktop.timeline.elements.message import make_message
from desktop.timeline.elements.separators import DateDivider, Gap, GapRow, UnreadDivider
from desktop.timeline.window import TimelineWindow
from desktop.ui.times import day_title
from shared.wire.inbox import Direction

_CACHED: Final = 600
_GROUP_WITHIN: Final = timedelta(minutes=10)


class LayoutCache:
    """Laid-out messages by key, the least recently shown dropped first.

    Valid for one set of metrics and tokens; `clear` when either changes.
    """

    def __init__(self) -> None:
        self._elements: OrderedDict[UUID, MessageElement] = OrderedDict()

    def clear(self) -> None:
        self._elements.clear()

    def element(self, row: MessageRow, placement: Placement, scene: Scene) -> MessageElement:
        known = self._elements.get(row.key)
        if known is None or type(known.row.content) is not type(row.content):
            made = make_message(row, placement, scene)
            self._elements[row.key] = made
            if len(self._elements) > _CACHED:
                self._elements.popitem(last=False)
            return made
        self._elements.move_to_end(row.key)
        is_due = known.due is not None and known.due <= scene.now
        if known.row is not row or known.placement != placement or is_due:
            known.set_state(row, placement, scene)
        return known


class Composer:
    """Builds the list of elements for a window of rows."""

    def __init__(self) -> None:
        self.cache = LayoutCache()

    def compose(self, window: TimelineWindow, unread_from: UUID | None, scene: Scene) -> list[Element]:
        """`unread_from`: the message over which the unread line stands."""
        elements: list[Element] = []
        gap = _gap(window)
        if gap is not None:
            elements.append(GapRow(gap))
        me = scene.speakers.me
        today = scene.now.astimezone().date()
        rows = window.rows
        days = [_day(row) for row in rows]
        first_unread = window.index_of(unread_from) if unread_from is not None else None
        for index, row in enumerate(rows):
            day_begins = index == 0 or days[index - 1] != days[index]
            if day_begins:
                elements.append(DateDivider(days[index], day_title(days[index], today)))
            if index == first_unread:
                elements.append(UnreadDivider("Unread messages"))
            above = None if day_begins or index == first_unread else rows[index - 1]
            below = rows[index + 1] if index + 1 < len(rows) and days[index + 1] == days[index] else None
            if index + 1 == first_unread:
                below = None
            joined_above = above is not None and _joined(above, row, me)
            placement = Placement(
                joined_above=joined_above,
                joined_below=below is not None and _joined(row, below, me),
                author="" if joined_above else _colleague(row, me),
            )
            elements.append(self.cache.element(row, placement, scene))
        return elements


def next_due(elements: list[Element]) -> datetime | None:
    """When the words under some message change by time alone."""
    return min(
        (
            element.due
            for element in elements
            if isinstance(element, MessageElement) and element.due is not None
        ),
        default=None,
    )


def _gap(window: TimelineWindow) -> Gap | None:
    match window.older:
        case Edge.CACHED:
            return Gap.LOADING
        case Edge.REMOTE:
            return Gap.AT_RELAY
        case Edge.END if not window.complete:
            return Gap.INCOMPLETE
        case _:
            return Gap.START if window.rows else None


def _day(row: MessageRow) -> date:
    return row.sent_at.astimezone().date()


def _joined(above: MessageRow, below: MessageRow, me: UUID | None) -> bool:
    """Whether two neighbours of the same day form one group. What has no author yet is one's own."""
    if above.direction is not below.direction or below.sent_at - above.sent_at >= _GROUP_WITHIN:
        return False
    one, other = above.author_id or me, below.author_id or me
    return one is other or one == other


def _colleague(row: MessageRow, me: UUID | None) -> str:
    if row.direction is not Direction.OUTBOUND or row.author_id is None or row.author_id == me:
        return ""
    return row.author_name
