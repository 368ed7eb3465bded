"""What the view knows of an element."""

from uuid import UUID

from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QPainter

from desktop.timeline.hit import NOTHING, Hit
from desktop.timeline.metrics import Metrics
from desktop.timeline.painting import PaintContext


class Element:
    """One row. Coordinates are its own: (0, 0) is its top left corner, its width is the view's."""

    __slots__ = ("height", "key")

    def __init__(self, key: UUID | str) -> None:
        self.key = key
        """A message's key, or a name for rows that are not messages. Unique in a timeline."""
        self.height = 0

    def resize(self, width: int, metrics: Metrics) -> int:
        """Lay out for `width` and give the height. Cheap when nothing changed."""
        raise NotImplementedError

    def paint(self, painter: QPainter, context: PaintContext, selected: tuple[int, int] | None) -> None:
        """`selected`: the selected part of the text, in UTF-16 units."""
        raise NotImplementedError

    def hit(self, point: QPointF) -> Hit:  # noqa: ARG002 - the default for rows without targets
        return NOTHING

    def text_length(self) -> int:
        """Length of the selectable text in UTF-16 units; 0 if none."""
        return 0

    def selected_text(self, start: int, end: int) -> str:  # noqa: ARG002 - the default for rows without text
        return ""

    def word_at(self, position: int) -> tuple[int, int]:
        return position, position

    def accessible_text(self) -> str:
        raise NotImplementedError

    def accessible_rect(self, width: int) -> QRectF:
        return QRectF(0, 0, width, self.height)
