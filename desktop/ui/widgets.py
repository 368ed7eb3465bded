"""Small widgets used in several places: labels by role, panels on a colour, empty states, thin lines."""

from collections.abc import Callable

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from desktop.ui import icon
from desktop.ui.buttons import Button, Kind
from desktop.ui.text import isolate
from desktop.ui.theme import theme
from desktop.ui.type_scale import RADIUS, SPACE_2, SPACE_3, SPACE_4, Role, font


class Label(QLabel):
    """Text in a role and a token's colour, which follows the theme."""

    def __init__(
        self,
        text: str = "",
        role: Role = Role.BODY,
        colour: str = "text_primary",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self._token = colour
        self.setFont(font(role))
        self.setTextFormat(Qt.TextFormat.PlainText)
        self._recolour()
        theme().changed.connect(self._recolour)

    def set_token(self, colour: str) -> None:
        self._token = colour
        self._recolour()

    def _recolour(self) -> None:
        colours = QPalette(self.palette())
        colours.setColor(QPalette.ColorRole.WindowText, getattr(theme().tokens, self._token))
        self.setPalette(colours)


class ElidedLabel(Label):
    """One line that ends in an ellipsis where there is no room; the whole text is its tooltip."""

    def __init__(
        self, role: Role = Role.BODY, colour: str = "text_primary", parent: QWidget | None = None
    ) -> None:
        super().__init__("", role, colour, parent)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def setText(self, text: str) -> None:
        super().setText(text)
        self.setAccessibleName(text)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self.fontMetrics().height())

    def sizeHint(self) -> QSize:
        return QSize(self.fontMetrics().horizontalAdvance(self.text()) + 2, self.fontMetrics().height())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        painter = QPainter(self)
        shown = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, self.width())
        self.setToolTip("" if shown == self.text() else self.text())
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        side = Qt.AlignmentFlag.AlignRight if self.isRightToLeft() else Qt.AlignmentFlag.AlignLeft
        flags = side | Qt.AlignmentFlag.AlignAbsolute | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(self.rect(), flags, isolate(shown))
        painter.end()


class Panel(QWidget):
    """A widget filled with one colour, optionally with rounded corners or a hairline on one side."""

    def __init__(
        self,
        colour: str = "surface",
        parent: QWidget | None = None,
        *,
        radius: int = 0,
        outline: str = "",
        edge: Qt.Edge | None = None,
    ) -> None:
        super().__init__(parent)
        self._token = colour
        self._radius = radius
        self._outline = outline
        self._edge = edge

    def set_token(self, colour: str) -> None:
        self._token = colour
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        tokens = theme().tokens
        painter = QPainter(self)
        fill: QColor = getattr(tokens, self._token)
        if self._radius:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(getattr(tokens, self._outline) if self._outline else Qt.PenStyle.NoPen)
            painter.setBrush(fill)
            painter.drawRoundedRect(
                QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), self._radius, self._radius
            )
        else:
            painter.fillRect(self.rect(), fill)
        if self._edge is not None:
            painter.fillRect(_edge_rect(self._edge, self.rect().toRectF()), tokens.border)
        painter.end()


def _edge_rect(edge: Qt.Edge, rect: QRectF) -> QRectF:
    match edge:
        case Qt.Edge.TopEdge:
            return QRectF(rect.left(), rect.top(), rect.width(), 1)
        case Qt.Edge.BottomEdge:
            return QRectF(rect.left(), rect.bottom() - 1, rect.width(), 1)
        case Qt.Edge.LeftEdge:
            return QRectF(rect.left(), rect.top(), 1, rect.height())
        case _:
            return QRectF(rect.right() - 1, rect.top(), 1, rect.height())


class IconMark(QWidget):
    """An icon as decoration, in a round tint if `ground` names one."""

    def __init__(
        self,
        icon_name: str,
        size: int,
        colour: str = "icon_muted",
        ground: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._icon_name = icon_name
        self._token = colour
        self._ground = ground
        self.setFixedSize(size, size)

    def set_icon(self, icon_name: str, colour: str, ground: str = "") -> None:
        self._icon_name, self._token, self._ground = icon_name, colour, ground
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        tokens = theme().tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        rect = QRectF(self.rect())
        if self._ground:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(getattr(tokens, self._ground))
            painter.drawEllipse(rect)
            inset = rect.width() * 0.27
            rect = rect.adjusted(inset, inset, -inset, -inset)
        icon.paint(painter, self._icon_name, getattr(tokens, self._token), rect)
        painter.end()


class EmptyState(QWidget):
    """Why a place is empty, and at most one thing to do about it."""

    def __init__(self, icon_name: str, title: str, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._mark = IconMark(icon_name, 72, "accent_text", "accent_soft")
        self.title = Label(title, Role.HEADING)
        self.text = Label(text, Role.SECONDARY, "text_secondary")
        self.button = Button("", Kind.TINTED)
        self._action: Callable[[], None] | None = None
        self.button.clicked.connect(self._on_pressed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_4, SPACE_4, SPACE_4, SPACE_4)
        layout.addStretch(2)
        layout.addWidget(self._mark, alignment=Qt.AlignmentFlag.AlignHCenter)
        layout.addSpacing(SPACE_3)
        for label in (self.title, self.text):
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            label.setWordWrap(True)
            layout.addWidget(label)
        layout.addSpacing(SPACE_2)
        layout.addWidget(self.button, alignment=Qt.AlignmentFlag.AlignHCenter)
        layout.addStretch(3)
        self.button.hide()

    def show_words(self, icon_name: str, title: str, text: str, *, grave: bool = False) -> None:
        """`grave`: something is wrong, not just empty."""
        self._mark.set_icon(
            icon_name, "danger_text" if grave else "accent_text", "danger_soft" if grave else "accent_soft"
        )
        self.title.setText(title)
        self.text.setText(text)

    def offer(self, words: str, action: Callable[[], None] | None) -> None:
        """Show a button with `words`; None takes it away."""
        self._action = action
        self.button.setText(words)
        self.button.setVisible(action is not None)

    def _on_pressed(self) -> None:
        if self._action is not None:
            self._action()


class Card(Panel):
    """A raised panel with rounded corners."""

    def __init__(self, parent: QWidget | None = None, colour: str = "surface_raised") -> None:
        super().__init__(colour, parent, radius=RADIUS + 4, outline="border")
