"""The narrow rail at the window's edge: places on top, the program's own matters at the bottom."""

from typing import Final
from uuid import UUID

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QEnterEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QVBoxLayout, QWidget

from desktop.ui import icon
from desktop.ui.avatar import Avatar
from desktop.ui.theme import Mode, theme
from desktop.ui.type_scale import RADIUS, SPACE_1, SPACE_2, SPACE_3, Role, font
from desktop.ui.widgets import Panel

_WIDTH: Final = 64
_BUTTON: Final = 44
_NEXT_MODE: Final = {Mode.SYSTEM: Mode.LIGHT, Mode.LIGHT: Mode.DARK, Mode.DARK: Mode.SYSTEM}
_MODE_ICON: Final = {Mode.SYSTEM: "theme", Mode.LIGHT: "sun", Mode.DARK: "moon"}


class Rail(Panel):
    """Emits what was pressed."""

    inbox_requested = Signal()
    shortcuts_requested = Signal()
    sign_out_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("rail", parent)
        self.setFixedWidth(_WIDTH)
        self._inbox = RailButton("chat", "Inbox")
        self._inbox.setChecked(True)
        self._theme = RailButton("theme", "")
        self._shortcuts = RailButton("keyboard", "Keyboard shortcuts (Ctrl+/)")
        self._sign_out = RailButton("sign-out", "Sign out")
        self._me = Avatar(36)
        self._inbox.clicked.connect(self.inbox_requested)
        self._theme.clicked.connect(self._on_theme_pressed)
        self._shortcuts.clicked.connect(self.shortcuts_requested)
        self._sign_out.clicked.connect(self.sign_out_requested)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, SPACE_3, 0, SPACE_3)
        layout.setSpacing(SPACE_1)
        layout.addWidget(_Mark(), alignment=Qt.AlignmentFlag.AlignHCenter)
        layout.addSpacing(SPACE_2)
        layout.addWidget(self._inbox, alignment=Qt.AlignmentFlag.AlignHCenter)
        layout.addStretch(1)
        for button in (self._theme, self._shortcuts, self._sign_out):
            layout.addWidget(button, alignment=Qt.AlignmentFlag.AlignHCenter)
        layout.addSpacing(SPACE_2)
        layout.addWidget(self._me, alignment=Qt.AlignmentFlag.AlignHCenter)
        self._me.hide()
        theme().changed.connect(self._show_mode)
        self._show_mode()

    def show_unread(self, count: int) -> None:
        self._inbox.show_badge(count)

    def show_me(self, name: str, email: str, tenant: str, identity: UUID) -> None:
        self._me.show_person(name, identity)
        self._me.setToolTip(f"{name} ({email})\n{tenant}")
        self._me.setAccessibleName(f"Signed in as {name}")
        self._me.show()

    def first_button(self) -> QAbstractButton:
        """Where the keyboard enters the rail."""
        return self._inbox

    def _on_theme_pressed(self) -> None:
        theme().set_mode(_NEXT_MODE[theme().mode])

    def _show_mode(self) -> None:
        mode = theme().mode
        words = {Mode.SYSTEM: "as the system", Mode.LIGHT: "light", Mode.DARK: "dark"}[mode]
        self._theme.set_icon(_MODE_ICON[mode], f"Appearance: {words}")


class RailButton(QAbstractButton):
    """An icon on the rail, with a count if something waits."""

    def __init__(self, icon_name: str, name: str) -> None:
        super().__init__()
        self._icon_name = icon_name
        self._count = 0
        self._name = name
        self.setCheckable(True)
        self.setFixedSize(_BUTTON, _BUTTON)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._show_name()

    def set_icon(self, icon_name: str, name: str) -> None:
        self._icon_name, self._name = icon_name, name
        self._show_name()
        self.update()

    def show_badge(self, count: int) -> None:
        self._count = count
        self._show_name()
        self.update()

    def nextCheckState(self) -> None:
        """Being the current place is set by the window, not by a press."""

    def sizeHint(self) -> QSize:
        return QSize(_BUTTON, _BUTTON)

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
        shape = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        painter.setPen(Qt.PenStyle.NoPen)
        if self.isChecked() or self.underMouse():
            painter.setBrush(tokens.rail_active if self.isChecked() else tokens.rail_hover)
            painter.drawRoundedRect(shape, RADIUS + 2, RADIUS + 2)
        if self.hasFocus():
            painter.setPen(QPen(tokens.rail_icon_active, 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(shape, RADIUS + 2, RADIUS + 2)
        ink = tokens.rail_icon_active if self.isChecked() or self.underMouse() else tokens.rail_icon
        icon.paint(painter, self._icon_name, ink, QRectF(self.rect()).adjusted(11, 11, -11, -11))
        if self._count:
            self._paint_badge(painter)
        painter.end()

    def _paint_badge(self, painter: QPainter) -> None:
        tokens = theme().tokens
        used = font(Role.CAPTION_STRONG)
        text = str(self._count) if self._count < 100 else "99+"
        painter.setFont(used)
        width = max(16, painter.fontMetrics().horizontalAdvance(text) + 8)
        rect = QRectF(self.width() - width, 1, width, 16)
        painter.setPen(QPen(tokens.rail, 2))
        painter.setBrush(tokens.danger)
        painter.drawRoundedRect(rect.adjusted(-1, -1, 1, 1), 9, 9)
        painter.setPen(tokens.on_danger)
        painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, text)

    def _show_name(self) -> None:
        name = f"{self._name}, {self._count} unread" if self._count else self._name
        self.setAccessibleName(name)
        self.setToolTip(name)


class _Mark(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self.setFixedSize(36, 36)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        painter = QPainter(self)
        painter.drawPixmap(0, 0, icon.logo(36, self.devicePixelRatioF()))
        painter.end()
