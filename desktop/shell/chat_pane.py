"""The open conversation: who it is, the messages, the composer; or a hint while none is open."""

from uuid import UUID

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from desktop.cache.rows import ConversationRow
from desktop.composer.panel import ComposerPanel
from desktop.inbox.words import title
from desktop.timeline.feed import TimelineFeed
from desktop.timeline.view import MessageView
from desktop.ui.avatar import Avatar
from desktop.ui.text import left_to_right
from desktop.ui.type_scale import SPACE_2, SPACE_3, SPACE_4, Role
from desktop.ui.widgets import ElidedLabel, EmptyState, Panel


class ChatPane(QStackedWidget):
    """Shows one conversation. Its parts are public: the window wires them to their models."""

    def __init__(self, feed: TimelineFeed, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.view = MessageView(feed)
        self.composer = ComposerPanel()
        self.open_id: UUID | None = None
        self._avatar = Avatar(38)
        self._name = ElidedLabel(Role.HEADING)
        self._detail = ElidedLabel(Role.CAPTION, "text_tertiary")
        self.view.typed.connect(self.composer.type_text)
        nothing = Panel("window")
        hint = QVBoxLayout(nothing)
        hint.addWidget(
            EmptyState(
                "chat",
                "Choose a conversation",
                "Pick one on the left, or press Ctrl+K to find a customer. Ctrl+/ lists every shortcut.",
            )
        )
        self.addWidget(nothing)
        self.addWidget(self._build_conversation())

    def _build_conversation(self) -> QWidget:
        head = Panel("surface", edge=Qt.Edge.BottomEdge)
        names = QVBoxLayout()
        names.setSpacing(1)
        names.addWidget(self._name)
        names.addWidget(self._detail)
        row = QHBoxLayout(head)
        row.setContentsMargins(SPACE_4, SPACE_2 + 1, SPACE_4, SPACE_2 + 1)
        row.setSpacing(SPACE_3)
        row.addWidget(self._avatar)
        row.addLayout(names, 1)
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(head)
        layout.addWidget(self.view, 1)
        layout.addWidget(self.composer)
        return page

    def show_conversation(self, row: ConversationRow, draft: str) -> None:
        """Open another conversation."""
        self.open_id = row.id
        self.update_head(row)
        self.composer.show_conversation(title(row), row.last_inbound_at, draft)
        self.setCurrentIndex(1)

    def update_head(self, row: ConversationRow) -> None:
        """The open conversation changed: its name, its window."""
        self._avatar.show_person(row.name or row.title, row.contact_id)
        self._name.setText(title(row))
        details = [f"@{row.username}"] if row.username and row.name else []
        if row.phone and row.title != row.phone:
            details.append(left_to_right(row.phone))
        self._detail.setText("  ·  ".join(details))
        self._detail.setVisible(bool(details))
        self.composer.set_last_inbound(row.last_inbound_at)

    def close_conversation(self) -> None:
        self.open_id = None
        self.setCurrentIndex(0)
