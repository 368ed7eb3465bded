"""Rows between messages: days, the line over what was unread, and places where messages are missing."""

from datetime import date
from enum import Enum

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QFontMetricsF, QPainter

from desktop.timeline.elements.base import Element
from desktop.timeline.metrics import Metrics
from desktop.timeline.painting import PaintContext, paint_chip


class _ChipRow(Element):
    """Words in a pill in the middle of a row."""

    __slots__ = ("_rect", "text")

    def __init__(self, key: str, text: str) -> None:
        super().__init__(key)
        self.text = text
        self._rect = QRectF()

    def resize(self, width: int, metrics: Metrics) -> int:
        chip_width = QFontMetricsF(metrics.chip).horizontalAdvance(self.text) + 2 * metrics.pad_x
        self._rect = QRectF(
            round((width - chip_width) / 2), metrics.divider_margin, round(chip_width), metrics.chip_height
        )
        self.height = metrics.chip_height + metrics.divider_margin + metrics.gap_in_group
        return self.height

    def paint(self, painter: QPainter, context: PaintContext, selected: tuple[int, int] | None) -> None:  # noqa: ARG002 - no text to select
        tokens = context.tokens
        paint_chip(
            painter, self._rect, self.text, context.metrics.chip, ground=tokens.chip, ink=tokens.chip_text
        )

    def accessible_text(self) -> str:
        return self.text


class DateDivider(_ChipRow):
    """The day of the messages below it."""

    __slots__ = ("day",)

    def __init__(self, day: date, title: str) -> None:
        super().__init__(f"day {day.isoformat()}", title)
        self.day = day


class UnreadDivider(Element):
    """Stands over the first message that was unread when the conversation was opened."""

    __slots__ = ("_text", "_width")

    def __init__(self, text: str) -> None:
        super().__init__("unread")
        self._text = text
        self._width = 0

    def resize(self, width: int, metrics: Metrics) -> int:
        self._width = width
        self.height = metrics.chip_height + metrics.divider_margin + metrics.gap_in_group
        return self.height

    def paint(self, painter: QPainter, context: PaintContext, selected: tuple[int, int] | None) -> None:  # noqa: ARG002 - no text to select
        tokens, metrics = context.tokens, context.metrics
        band = QRectF(0, metrics.divider_margin, self._width, metrics.chip_height)
        painter.fillRect(band, tokens.unread_divider)
        painter.setFont(metrics.chip)
        painter.setPen(tokens.unread_divider_text)
        painter.drawText(band, Qt.AlignmentFlag.AlignCenter, self._text)

    def accessible_text(self) -> str:
        return self._text


class Gap(Enum):
    """What stands at the top while messages above are not here."""

    LOADING = "Loading earlier messages…"
    AT_RELAY = "Earlier messages are on their way"
    START = "This is where the conversation begins"
    INCOMPLETE = "Some messages may be missing here until the relay answers"


class GapRow(_ChipRow):
    """Says what is missing; the view asks for it when the row comes near the screen."""

    __slots__ = ()

    def __init__(self, gap: Gap) -> None:
        super().__init__(f"gap {gap.name}", gap.value)
