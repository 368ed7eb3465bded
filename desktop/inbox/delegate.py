"""One row of the inbox: avatar, name, what was said last, when, what is unread, how long one may reply."""

from datetime import UTC, datetime, timedelta
from typing import Final

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from desktop.cache.rows import ConversationRow
from desktop.inbox.list_model import ROW
from desktop.inbox.words import ENDING_WITHIN, tick, title, window_left
from desktop.ui import icon
from desktop.ui.avatar import paint_avatar
from desktop.ui.text import isolate
from desktop.ui.theme import theme
from desktop.ui.ticks import Tick, paint_tick, tick_width
from desktop.ui.times import list_time, time_left_short
from desktop.ui.tokens import Tokens
from desktop.ui.type_scale import RADIUS, SPACE_1, SPACE_2, SPACE_3, Role, font, scale

_HEIGHT: Final = 70
_AVATAR: Final = 46
_TICK: Final = 12
_BADGE: Final = 20


class InboxDelegate(QStyledItemDelegate):
    """Rows of one height. Mirrored in right-to-left layouts."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.now = datetime.now(UTC)

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:  # noqa: ARG002 - all rows are alike
        return QSize(200, row_height())

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        row: ConversationRow = index.data(ROW)
        tokens = theme().tokens
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        _Row(painter, option, row, tokens, self.now).paint()
        painter.restore()


def row_height() -> int:
    return round(_HEIGHT * scale())


def paint_skeleton(painter: QPainter, rect: QRect, tokens: Tokens, *, mirrored: bool) -> None:
    """A row while the list is being read."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(tokens.skeleton)
    size = round(_AVATAR * scale())
    avatar = QRectF(rect.left() + SPACE_2 + SPACE_3, rect.center().y() - size / 2, size, size)
    first = QRectF(avatar.right() + SPACE_3, rect.top() + rect.height() * 0.27, rect.width() * 0.32, 10)
    second = QRectF(avatar.right() + SPACE_3, rect.top() + rect.height() * 0.60, rect.width() * 0.55, 10)
    for each in (first, second):
        painter.drawRoundedRect(_placed(each, QRectF(rect), mirrored=mirrored), 5, 5)
    painter.drawEllipse(_placed(avatar, QRectF(rect), mirrored=mirrored))


def _placed(rect: QRectF, within: QRectF, *, mirrored: bool) -> QRectF:
    if not mirrored:
        return rect
    return QRectF(within.left() + within.right() - rect.right(), rect.top(), rect.width(), rect.height())


class _Row:
    """Paints one row; keeps what all parts of it need."""

    def __init__(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        row: ConversationRow,
        tokens: Tokens,
        now: datetime,
    ) -> None:
        self._painter = painter
        self._row = row
        self._tokens = tokens
        self._now = now
        self._rect = QRectF(option.rect)
        self._mirrored = option.direction is Qt.LayoutDirection.RightToLeft
        self._selected = bool(option.state & QStyle.StateFlag.State_Selected)
        self._hovered = bool(option.state & QStyle.StateFlag.State_MouseOver)
        self._focused = bool(option.state & QStyle.StateFlag.State_HasFocus)

    def paint(self) -> None:
        self._paint_ground()
        size = round(_AVATAR * scale())
        row = self._rect
        inner = row.adjusted(SPACE_2 + SPACE_3, 0, -(SPACE_2 + SPACE_3), 0)
        avatar = QRectF(inner.left(), row.center().y() - size / 2, size, size)
        paint_avatar(
            self._painter, self._place(avatar), self._row.name or self._row.title, self._row.contact_id
        )
        text_left = avatar.right() + SPACE_3
        line = row.height() / 2
        upper = QRectF(text_left, row.top() + line * 0.27, inner.right() - text_left, line * 0.66)
        lower = QRectF(text_left, row.top() + line * 1.02, inner.right() - text_left, line * 0.66)
        self._paint_upper(upper)
        self._paint_lower(lower)

    def _paint_ground(self) -> None:
        tokens = self._tokens
        shape = self._rect.adjusted(SPACE_2, 1, -SPACE_2, -1)
        if self._selected or self._hovered:
            self._painter.setPen(Qt.PenStyle.NoPen)
            self._painter.setBrush(tokens.surface_selected if self._selected else tokens.surface_hover)
            self._painter.drawRoundedRect(shape, RADIUS, RADIUS)
        if self._focused:
            self._painter.setPen(tokens.focus)
            self._painter.setBrush(Qt.BrushStyle.NoBrush)
            self._painter.drawRoundedRect(shape.adjusted(0.5, 0.5, -0.5, -0.5), RADIUS, RADIUS)

    def _paint_upper(self, rect: QRectF) -> None:
        """Name, and when."""
        tokens, row = self._tokens, self._row
        time_font = font(Role.CAPTION)
        when = list_time(row.activity_at, self._now)
        width = QFontMetricsF(time_font).horizontalAdvance(when) + 1
        time_rect = QRectF(rect.right() - width, rect.top(), width, rect.height())
        unread = bool(row.unread_count)
        self._write(time_rect, when, time_font, tokens.accent_text if unread else tokens.text_tertiary)
        right = time_rect.left() - SPACE_2
        left = window_left(row, self._now)
        if left is None or left <= timedelta(0):
            size = round(13 * scale())
            lock = QRectF(right - size, rect.center().y() - size / 2 + 0.5, size, size)
            icon.paint(self._painter, "lock", tokens.text_tertiary, self._place(lock))
            right = lock.left() - SPACE_1
        name_rect = QRectF(rect.left(), rect.top(), right - rect.left(), rect.height())
        self._write(name_rect, title(row), font(Role.BODY_STRONG), tokens.text_primary)

    def _paint_lower(self, rect: QRectF) -> None:
        """Tick, what was said last, how long one may reply, what is unread."""
        right = self._paint_badge(rect)
        right = self._paint_window(rect, right)
        left = rect.left()
        sign = tick(self._row)
        if sign is not Tick.NONE and not self._row.draft:
            height = round(_TICK * scale())
            at = self._place(QRectF(left - 1, rect.center().y() - height / 2, tick_width(height), height))
            paint_tick(self._painter, sign, at.topLeft(), height, tokens=self._tokens, ink=self._tokens.tick)
            left += tick_width(height) + SPACE_1
        self._paint_summary(QRectF(left, rect.top(), right - left, rect.height()))

    def _paint_summary(self, rect: QRectF) -> None:
        tokens, row = self._tokens, self._row
        used = font(Role.SECONDARY)
        if row.draft:
            mark = "Draft: "
            width = QFontMetricsF(used).horizontalAdvance(mark)
            self._write(QRectF(rect.left(), rect.top(), width, rect.height()), mark, used, tokens.danger_text)
            rest = rect.adjusted(width, 0, 0, 0)
            self._write(rest, " ".join(row.draft.split()), used, tokens.text_secondary)
            return
        words = row.summary or "No messages yet"
        self._write(rect, words, used, tokens.text_primary if row.unread_count else tokens.text_secondary)

    def _paint_badge(self, rect: QRectF) -> float:
        count = self._row.unread_count
        if not count:
            return rect.right()
        used = font(Role.CAPTION_STRONG)
        words = str(count) if count < 1000 else "999+"
        height = round(_BADGE * scale())
        width = max(height, QFontMetricsF(used).horizontalAdvance(words) + 12)
        badge = QRectF(rect.right() - width, rect.center().y() - height / 2, width, height)
        self._painter.setPen(Qt.PenStyle.NoPen)
        self._painter.setBrush(self._tokens.badge)
        self._painter.drawRoundedRect(self._place(badge), height / 2, height / 2)
        self._painter.setFont(used)
        self._painter.setPen(self._tokens.on_badge)
        self._painter.drawText(self._place(badge), Qt.AlignmentFlag.AlignCenter, words)
        return badge.left() - SPACE_2

    def _paint_window(self, rect: QRectF, right: float) -> float:
        left = window_left(self._row, self._now)
        if left is None or not timedelta(0) < left < ENDING_WITHIN:
            return right
        used = font(Role.CAPTION_STRONG)
        words = time_left_short(left)
        size = round(12 * scale())
        width = size + 3 + QFontMetricsF(used).horizontalAdvance(words) + 12
        height = round(18 * scale())
        pill = QRectF(right - width, rect.center().y() - height / 2, width, height)
        self._painter.setPen(Qt.PenStyle.NoPen)
        self._painter.setBrush(self._tokens.warning_soft)
        self._painter.drawRoundedRect(self._place(pill), height / 2, height / 2)
        clock = QRectF(pill.left() + 6, pill.center().y() - size / 2, size, size)
        icon.paint(self._painter, "clock", self._tokens.warning_text, self._place(clock))
        text = QRectF(clock.right() + 3, pill.top(), pill.right() - clock.right() - 3, pill.height())
        self._write(text, words, used, self._tokens.warning_text)
        return pill.left() - SPACE_2

    def _write(self, rect: QRectF, text: str, used: QFont, colour: QColor) -> None:
        self._painter.setFont(used)
        self._painter.setPen(colour)
        if rect.width() <= 0:
            return
        shown = QFontMetricsF(used).elidedText(text, Qt.TextElideMode.ElideRight, rect.width() + 0.5)
        side = Qt.AlignmentFlag.AlignRight if self._mirrored else Qt.AlignmentFlag.AlignLeft
        self._painter.drawText(
            self._place(rect),
            side
            | Qt.AlignmentFlag.AlignAbsolute
            | Qt.AlignmentFlag.AlignVCenter
            | Qt.TextFlag.TextSingleLine,
            isolate(shown),
        )

    def _place(self, rect: QRectF) -> QRectF:
        return _placed(rect, self._rect, mirrored=self._mirrored)
