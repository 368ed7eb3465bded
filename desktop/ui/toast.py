"""Short notes at the bottom of a window: one bus, replaced by key; errors stay until closed.

Each is announced to screen readers.
"""

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, QPoint, Qt, QTimer
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from desktop.ui.buttons import Button, IconButton, Kind
from desktop.ui.type_scale import SPACE_2, SPACE_3, SPACE_4, Role
from desktop.ui.widgets import Card, IconMark, Label

_SHOWN_MS = 5_000
_WIDTH = 420


class Toasts(QObject):
    """Shows notes over `parent`."""

    def __init__(self, parent: QWidget, area: QWidget) -> None:
        """The notes stand at the bottom of `area` while that is visible, else of `parent`."""
        super().__init__(parent)
        self._over = parent
        self._area = area
        area.installEventFilter(self)
        self._cards: dict[str, _Toast] = {}
        parent.installEventFilter(self)

    def show(
        self,
        key: str,
        title: str,
        text: str = "",
        *,
        error: bool = False,
        action: tuple[str, Callable[[], None]] | None = None,
    ) -> None:
        """Show a note; an older one with the same `key` is replaced. An error stays until it is closed."""
        self.dismiss(key)
        card = _Toast(self._over, title, text, error=error, action=action)
        card.closed = lambda: self.dismiss(key)
        self._cards[key] = card
        if not error:
            QTimer.singleShot(_SHOWN_MS, card, card.close_itself)
        card.show()
        self._place()
        spoken = QAccessibleAnnouncementEvent(card, f"{title}. {text}" if text else title)
        spoken.setPoliteness(
            QAccessible.AnnouncementPoliteness.Assertive
            if error
            else QAccessible.AnnouncementPoliteness.Polite
        )
        QAccessible.updateAccessibility(spoken)

    def dismiss(self, key: str) -> None:
        card = self._cards.pop(key, None)
        if card is not None:
            card.hide()
            card.deleteLater()
            self._place()

    def texts(self) -> list[str]:
        """The titles shown now, oldest first."""
        return [card.title for card in self._cards.values()]

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: ARG002 - Qt's signature
        if event.type() == QEvent.Type.Resize:
            self._place()
        return False

    def _place(self) -> None:
        area = self._area if self._area.isVisible() else self._over
        corner = area.mapTo(self._over, QPoint()) if area is not self._over else QPoint()
        bottom = corner.y() + area.height() - SPACE_4
        for card in reversed(self._cards.values()):
            card.setFixedWidth(min(_WIDTH, area.width() - 2 * SPACE_4))
            card.adjustSize()
            bottom -= card.height()
            card.move(corner.x() + (area.width() - card.width()) // 2, bottom)
            card.raise_()
            bottom -= SPACE_2


class _Toast(Card):
    def __init__(
        self,
        parent: QWidget,
        title: str,
        text: str,
        *,
        error: bool,
        action: tuple[str, Callable[[], None]] | None,
    ) -> None:
        super().__init__(parent)
        self.title = title
        self.closed: Callable[[], None] = self.hide
        self.setAccessibleName(title)
        row = QHBoxLayout(self)
        row.setContentsMargins(SPACE_4, SPACE_3, SPACE_3, SPACE_3)
        row.setSpacing(SPACE_3)
        row.addWidget(
            IconMark("alert" if error else "info", 20, "danger_text" if error else "accent_text"),
            alignment=Qt.AlignmentFlag.AlignTop if text else Qt.AlignmentFlag.AlignVCenter,
        )
        words = QVBoxLayout()
        words.setSpacing(2)
        heading = Label(title, Role.BODY_STRONG)
        heading.setWordWrap(True)
        words.addWidget(heading)
        if text:
            body = Label(text, Role.SECONDARY, "text_secondary")
            body.setWordWrap(True)
            words.addWidget(body)
        row.addLayout(words, 1)
        if action is not None:
            label, run = action
            self._run = run
            button = Button(label, Kind.PLAIN)
            button.clicked.connect(self._on_action)
            row.addWidget(button, alignment=Qt.AlignmentFlag.AlignVCenter)
        close = IconButton("close", "Close this note", 28, colour="icon_muted")
        close.clicked.connect(self.close_itself)
        row.addWidget(close, alignment=Qt.AlignmentFlag.AlignTop if text else Qt.AlignmentFlag.AlignVCenter)

    def close_itself(self) -> None:
        # Later: the button that was pressed must not be destroyed inside its own signal.
        QTimer.singleShot(0, self, self.closed)

    def _on_action(self) -> None:
        self._run()
        self.close_itself()
