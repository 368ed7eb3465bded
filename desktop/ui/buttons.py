"""Buttons: filled, tinted and plain ones with words, and round ones with an icon."""

from enum import Enum

from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QEnterEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QPushButton, QWidget

from desktop.ui import icon
from desktop.ui.theme import theme
from desktop.ui.tokens import Tokens
from desktop.ui.type_scale import RADIUS, SPACE_2, SPACE_4, Role, font, scale


class Kind(Enum):
    """`PRIMARY`: the one thing to do here. `TINTED`: a second choice. `PLAIN`: words that can be pressed."""

    PRIMARY = "primary"
    TINTED = "tinted"
    PLAIN = "plain"
    DANGER = "danger"


class Button(QPushButton):
    """A button with words. `busy` shows that its work is under way, and stops presses."""

    def __init__(self, text: str, kind: Kind = Kind.TINTED, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self._kind = kind
        self._busy_text = ""
        self._label = text
        self.setFont(font(Role.BODY_STRONG))
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)

    def set_busy(self, words: str) -> None:
        """Show `words` and take no presses; "" ends it."""
        self._busy_text = words
        self.setText(words or self._label)
        self.setEnabled(not words)

    def sizeHint(self) -> QSize:
        metrics = self.fontMetrics()
        padding = SPACE_2 if self._kind is Kind.PLAIN else SPACE_4
        return QSize(
            metrics.horizontalAdvance(self.text()) + 2 * padding, metrics.height() + round(16 * scale())
        )

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        tokens = theme().tokens
        ground, ink = self._colours(tokens)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        shape = QRectF(self.rect()).adjusted(1.5, 1.5, -1.5, -1.5)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(ground)
        painter.drawRoundedRect(shape, RADIUS, RADIUS)
        if self.hasFocus():
            paint_focus_ring(painter, shape, RADIUS, tokens)
        painter.setPen(ink)
        painter.setFont(self.font())
        painter.drawText(
            self.rect(), Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextShowMnemonic, self.text()
        )
        painter.end()

    def _colours(self, tokens: Tokens) -> tuple[QColor, QColor]:
        hovered, pressed = self.underMouse() and self.isEnabled(), self.isDown()
        if not self.isEnabled() and not self._busy_text:
            return (
                QColor(0, 0, 0, 0) if self._kind is Kind.PLAIN else tokens.surface_sunken
            ), tokens.text_disabled
        match self._kind:
            case Kind.PRIMARY:
                ground = (
                    tokens.accent_pressed if pressed else tokens.accent_hover if hovered else tokens.accent
                )
                return ground, tokens.on_accent
            case Kind.DANGER:
                return (tokens.danger_hover if pressed or hovered else tokens.danger), tokens.on_danger
            case Kind.TINTED:
                ground = tokens.surface_pressed if pressed or hovered else tokens.surface_sunken
                return ground, tokens.text_primary
            case Kind.PLAIN:
                ground = tokens.accent_soft if pressed or hovered else QColor(0, 0, 0, 0)
                return ground, tokens.accent_text


class IconButton(QAbstractButton):
    """A round button with an icon. `name` is its accessible name and tooltip."""

    def __init__(
        self,
        icon_name: str,
        name: str,
        size: int = 36,
        parent: QWidget | None = None,
        *,
        colour: str = "icon",
    ) -> None:
        super().__init__(parent)
        self._icon_name = icon_name
        self._token = colour
        self._filled = False
        self.setAccessibleName(name)
        self.setToolTip(name)
        self.setFixedSize(size, size)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)

    def set_icon(self, icon_name: str, name: str = "") -> None:
        self._icon_name = icon_name
        if name:
            self.setAccessibleName(name)
            self.setToolTip(name)
        self.update()

    def set_filled(self, filled: bool) -> None:
        """On the accent colour, as the send button."""
        self._filled = filled
        self.update()

    def sizeHint(self) -> QSize:
        return self.size()

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        tokens = theme().tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        shape = QRectF(self.rect()).adjusted(1.5, 1.5, -1.5, -1.5)
        ground, ink = self._colours(tokens)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(ground)
        painter.drawEllipse(shape)
        if self.hasFocus():
            paint_focus_ring(painter, shape, shape.height() / 2, tokens)
        inset = self.height() * 0.23
        icon.paint(painter, self._icon_name, ink, QRectF(self.rect()).adjusted(inset, inset, -inset, -inset))
        painter.end()

    def _colours(self, tokens: Tokens) -> tuple[QColor, QColor]:
        hovered = self.underMouse() and self.isEnabled()
        if self._filled and self.isEnabled():
            ground = (
                tokens.accent_pressed if self.isDown() else tokens.accent_hover if hovered else tokens.accent
            )
            return ground, tokens.on_accent
        ink = getattr(tokens, self._token) if self.isEnabled() else tokens.text_disabled
        if self.isDown() or self.isChecked():
            return tokens.surface_pressed, ink
        return (tokens.surface_pressed if hovered else QColor(0, 0, 0, 0)), ink


def paint_focus_ring(painter: QPainter, shape: QRectF, radius: float, tokens: Tokens) -> None:
    """The ring of the keyboard's focus, just inside the widget."""
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(tokens.surface, 3))
    painter.drawRoundedRect(shape.adjusted(1.5, 1.5, -1.5, -1.5), radius - 1.5, radius - 1.5)
    painter.setPen(QPen(tokens.focus, 2))
    painter.drawRoundedRect(shape, radius, radius)
