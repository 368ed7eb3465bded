"""The note under a bubble: words and, on a line below them, what can be done."""

from typing import Final

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter

from desktop.timeline.elements.text_block import TextBlock
from desktop.timeline.hit import Action
from desktop.timeline.marks import Marked
from desktop.timeline.metrics import Metrics
from desktop.timeline.notices import Notice
from desktop.ui.tokens import Tokens

_GAP: Final = 14


class NoticeBox:
    """Made anew for each notice."""

    __slots__ = ("_actions", "_box", "_grave", "_words")

    def __init__(self, notice: Notice, metrics: Metrics) -> None:
        self._words = TextBlock(
            Marked(notice.words, ()), metrics.notice, metrics.code, QColor(Qt.GlobalColor.black), 1
        )
        self._grave = notice.grave
        self._actions: list[tuple[Action, QRectF]] = [(action, QRectF()) for action in notice.actions]
        self._box = QRectF()

    def place(self, bubble: QRectF, limit: int, top: int, metrics: Metrics, *, on_right: bool) -> int:
        """Lay out under `bubble`, at most `limit` wide, from `top` on; gives the height."""
        pad = metrics.pad_x
        self._words.set_width(limit - 2 * pad)
        measure = QFontMetricsF(metrics.action)
        widths = [round(measure.horizontalAdvance(action.value)) for action, _ in self._actions]
        actions_width = sum(widths) + _GAP * max(0, len(widths) - 1)
        width = max(self._words.used_width, actions_width) + 2 * pad
        row_height = round(measure.height()) + metrics.pad_top
        height = self._words.height + 2 * metrics.pad_top + (row_height if widths else 0)
        left = bubble.right() - width if on_right else bubble.left()
        self._box = QRectF(left, top, width, height)
        y = top + metrics.pad_top + self._words.height
        x = self._box.right() - pad if metrics.mirrored else left + pad
        placed = []
        for (action, _), each in zip(self._actions, widths, strict=True):
            start = x - each if metrics.mirrored else x
            placed.append((action, QRectF(start, y, each, row_height + metrics.pad_top / 2)))
            x += -(each + _GAP) if metrics.mirrored else each + _GAP
        self._actions = placed
        return height

    def action_at(self, point: QPointF) -> Action | None:
        reach = _GAP / 2
        return next(
            (action for action, rect in self._actions if rect.adjusted(-reach, 0, reach, 0).contains(point)),
            None,
        )

    def paint(self, painter: QPainter, tokens: Tokens, metrics: Metrics, hovered: Action | None) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tokens.danger_soft if self._grave else tokens.chip)
        painter.drawRoundedRect(self._box, metrics.radius * 0.75, metrics.radius * 0.75)
        ink = tokens.danger_text if self._grave else tokens.chip_text
        painter.setPen(ink)
        at = self._box.topLeft() + QPointF(metrics.pad_x, metrics.pad_top)
        nothing = QColor(0, 0, 0, 0)
        self._words.draw(
            painter,
            at,
            round(self._box.width()) - 2 * metrics.pad_x,
            selected=None,
            selection=(nothing, nothing),
            code_ground=nothing,
        )
        for action, rect in self._actions:
            font = metrics.action
            painter.setFont(font)
            painter.setPen(ink if self._grave else tokens.accent_text)
            painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, action.value)
            if action is hovered:
                line = rect.center().y() + QFontMetricsF(font).ascent() / 2 + 1
                painter.drawLine(QPointF(rect.left(), line), QPointF(rect.right(), line))
