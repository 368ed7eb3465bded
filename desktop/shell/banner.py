"""The strip over the inbox while the relay cannot be reached: since when, what still works, what waits."""

from datetime import UTC, datetime
from typing import Final

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from desktop.engine.events import ConnectionChanged, Phase
from desktop.ui.buttons import Button, Kind
from desktop.ui.times import ago
from desktop.ui.type_scale import SPACE_2, SPACE_3, SPACE_4, Role
from desktop.ui.widgets import IconMark, Label, Panel

PATIENCE_MS: Final = 5_000
"""Short losses heal by themselves and are not worth a word."""

_REFRESH_MS: Final = 15_000


class OfflineBanner(Panel):
    """Appears `PATIENCE_MS` after the connection was lost and goes when it is back. Never in the way."""

    retry_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("warning_soft", parent, edge=Qt.Edge.BottomEdge)
        self._state: ConnectionChanged | None = None
        self._title = Label("", Role.SECONDARY_STRONG, "warning_text")
        self._words = Label("", Role.SECONDARY, "warning_text")
        self._words.setWordWrap(True)
        retry = Button("Try now", Kind.PLAIN)
        retry.clicked.connect(self.retry_requested)
        words = QVBoxLayout()
        words.setSpacing(1)
        words.addWidget(self._title)
        words.addWidget(self._words)
        row = QHBoxLayout(self)
        row.setContentsMargins(SPACE_4, SPACE_2, SPACE_3, SPACE_2)
        row.setSpacing(SPACE_3)
        row.addWidget(IconMark("offline", 22, "warning_text"))
        row.addLayout(words, 1)
        row.addWidget(retry)
        self._patience = QTimer(self, singleShot=True)
        self._patience.timeout.connect(self._appear)
        self._refresh = QTimer(self, interval=_REFRESH_MS)
        self._refresh.timeout.connect(self._write)
        self.hide()

    def show_connection(self, state: ConnectionChanged) -> None:
        self._state = state
        if state.phase in {Phase.ONLINE, Phase.SIGNED_OUT}:
            self._patience.stop()
            self._refresh.stop()
            self.hide()
            return
        self._write()
        if not self.isVisible() and not self._patience.isActive():
            passed = (datetime.now(UTC) - state.since).total_seconds() * 1000
            self._patience.start(max(0, PATIENCE_MS - int(passed)))

    def _appear(self) -> None:
        self._write()
        self._refresh.start()
        self.show()

    def _write(self) -> None:
        if self._state is None:
            return
        state, now = self._state, datetime.now(UTC)
        reason = f": {state.reason}" if state.reason else ""
        self._title.setText(
            f"You are offline{reason}" if state.phase is Phase.OFFLINE else "Connecting to the relay…"
        )
        parts = [
            f"Last in step {ago(state.last_sync_at, now)}." if state.last_sync_at else "Not in step yet."
        ]
        parts.append("You can read, search and write; messages leave when the connection is back.")
        if state.unsent:
            parts.append("1 message waits." if state.unsent == 1 else f"{state.unsent} messages wait.")
        self._words.setText(" ".join(parts))
        self.setAccessibleName(f"{self._title.text()} {self._words.text()}")
