"""What floats over the messages: the day of what is on screen, and the button to the newest message."""

from datetime import date, datetime
from typing import Final

from PySide6.QtCore import QRectF, QSize, Qt, QTimer, QVariantAnimation
from PySide6.QtGui import QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QWidget

from desktop.timeline.metrics import Metrics
from desktop.timeline.painting import paint_chip
from desktop.ui import icon
from desktop.ui.theme import theme
from desktop.ui.times import day_title
from desktop.ui.type_scale import SPACE_2, SPACE_4, Role, font

_SHOWN_MS: Final = 1_400
_FADE_MS: Final = 160
_BUTTON: Final = 42
_BADGE: Final = 18


class DateChip(QWidget):
    """Appears while scrolling and fades away afterwards."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._day: date | None = None
        self._text = ""
        self._metrics: Metrics | None = None
        self._opacity = 0.0
        self._redundant = False
        self._fade = QVariantAnimation(self, duration=_FADE_MS)
        self._fade.valueChanged.connect(self._on_faded)
        self._rest = QTimer(self, singleShot=True, interval=_SHOWN_MS)
        self._rest.timeout.connect(self._disappear)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()

    def show_day_of(self, moment: datetime | None, now: datetime) -> None:
        day = moment.astimezone().date() if moment is not None else None
        if day != self._day:
            self._day = day
            self._text = day_title(day, now.astimezone().date()) if day is not None else ""
            self.update()

    def place(self, width: int, metrics: Metrics) -> None:
        self._metrics = metrics
        needed = round(QFontMetricsF(metrics.chip).horizontalAdvance(self._text)) + 2 * metrics.pad_x
        self.setGeometry((width - needed) // 2, SPACE_2, needed, metrics.chip_height + 2)

    def wake(self) -> None:
        """The reader scrolls."""
        if not self._redundant and self._text:
            self._fade_to(1.0)
            self._rest.start()

    def set_redundant(self, redundant: bool) -> None:
        """The same day is written in the messages at this place."""
        self._redundant = redundant
        if redundant:
            self._rest.stop()
            self._fade.stop()
            self._opacity = 0.0
            self.hide()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        if self._metrics is None:
            return
        tokens = theme().tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setOpacity(self._opacity)
        rect = QRectF(0, 0, self.width(), self.height() - 2)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tokens.bubble_shadow)
        painter.drawRoundedRect(rect.translated(0, 1.5), rect.height() / 2, rect.height() / 2)
        paint_chip(painter, rect, self._text, self._metrics.chip, ground=tokens.chip, ink=tokens.chip_text)
        painter.end()

    def _disappear(self) -> None:
        self._fade_to(0.0)

    def _fade_to(self, opacity: float) -> None:
        if opacity and self.isHidden():
            self.show()
        if self._fade.endValue() == opacity and self._fade.state() is QVariantAnimation.State.Running:
            return
        self._fade.stop()
        self._fade.setStartValue(self._opacity)
        self._fade.setEndValue(opacity)
        self._fade.start()

    def _on_faded(self, opacity: float) -> None:
        self._opacity = opacity
        self.setVisible(opacity > 0)
        self.update()


class JumpButton(QAbstractButton):
    """Down to the newest message; shows how many came meanwhile."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._count = 0
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setFixedSize(_BUTTON + 8, _BUTTON + _BADGE // 2 + 4)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        self.hide()

    def show_count(self, count: int, *, shown: bool) -> None:
        name = f"Jump to newest, {count} new" if count else "Jump to newest"
        self.setAccessibleName(name)
        self.setToolTip(f"{name} (Ctrl+J)")
        if count != self._count:
            self._count = count
            self.update()
        self.setVisible(shown)

    def place(self, area: QSize, *, mirrored: bool) -> None:
        x = SPACE_4 - 4 if mirrored else area.width() - self.width() - SPACE_4 + 4
        self.move(x, area.height() - self.height() - SPACE_4)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        tokens = theme().tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        circle = QRectF(4, _BADGE / 2, _BUTTON, _BUTTON)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tokens.bubble_shadow)
        painter.drawEllipse(circle.translated(0, 2))
        painter.setBrush(
            tokens.surface_pressed
            if self.isDown()
            else tokens.surface_hover
            if self.underMouse()
            else tokens.surface_raised
        )
        painter.drawEllipse(circle)
        inset = _BUTTON * 0.25
        icon.paint(
            painter, "chevron-down", tokens.icon, circle.adjusted(inset, inset + 1, -inset, -inset + 1)
        )
        if self._count:
            self._paint_badge(painter)
        painter.end()

    def _paint_badge(self, painter: QPainter) -> None:
        tokens = theme().tokens
        text = str(self._count) if self._count < 1000 else "999+"
        used = font(Role.CAPTION_STRONG)
        width = max(_BADGE, QFontMetricsF(used).horizontalAdvance(text) + 10)
        badge = QRectF((self.width() - width) / 2, 0, width, _BADGE)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tokens.badge)
        painter.drawRoundedRect(badge, _BADGE / 2, _BADGE / 2)
        painter.setFont(used)
        painter.setPen(tokens.on_badge)
        painter.drawText(badge, Qt.AlignmentFlag.AlignCenter, text)
