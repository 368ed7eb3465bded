"""The bar under the messages: text field, send button, and what stands in the way of sending."""

from datetime import UTC, datetime, timedelta
from typing import Final

from PySide6.QtCore import QRectF, Qt, QTimer, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from desktop.composer.editor import Editor
from desktop.ui.buttons import IconButton
from desktop.ui.theme import theme
from desktop.ui.times import time_left
from desktop.ui.type_scale import RADIUS_LARGE, SPACE_1, SPACE_2, SPACE_3, SPACE_4, Role
from desktop.ui.widgets import IconMark, Label, Panel
from shared.limits import TEXT_MAX_CHARS
from shared.service_window import closes_at

_COUNT_FROM: Final = 300
"""The counter appears when fewer characters than this are left."""

_CLOCK_MS: Final = 10_000
_ENDING: Final = timedelta(hours=4)
_DRAFT_PAUSE_MS: Final = 700


class ComposerPanel(Panel):
    """Emits the text to send and clears itself; `restore` gives a text back."""

    submitted = Signal(str)
    draft_changed = Signal(str)
    """The text as it was when the person paused, or when `leave` was called."""

    left = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("surface", parent, edge=Qt.Edge.TopEdge)
        self.editor = Editor()
        self.editor.setPlaceholderText("Write a message")
        self._send = IconButton("send", "Send (Enter)", 40, colour="icon_muted")
        self._window_mark = _Dot()
        self._window_words = Label("", Role.CAPTION, "text_tertiary")
        self._counter = Label("", Role.CAPTION, "text_tertiary")
        self._hint = Label("Enter sends, Shift+Enter starts a new line", Role.CAPTION, "text_tertiary")
        self._closed = _ClosedNote()
        self._last_inbound_at: datetime | None = None
        self._open = True
        self._draft_saved = ""
        self._pause = QTimer(self, singleShot=True, interval=_DRAFT_PAUSE_MS)
        self._pause.timeout.connect(self._save_draft)
        self._clock = QTimer(self, interval=_CLOCK_MS)
        self._clock.timeout.connect(self._show_window)
        self._clock.start()
        self.editor.textChanged.connect(self._on_text_changed)
        self.editor.submitted.connect(self._submit)
        self.editor.left.connect(self.left)
        self._send.clicked.connect(self._submit)
        self._build()
        self._show_window()
        self._on_text_changed()

    def _build(self) -> None:
        field = _Field(self.editor)
        row = QHBoxLayout()
        row.setSpacing(SPACE_2)
        row.addWidget(field, 1)
        row.addWidget(self._send, alignment=Qt.AlignmentFlag.AlignBottom)
        below = QHBoxLayout()
        below.setContentsMargins(SPACE_3, 0, SPACE_3, 0)
        below.setSpacing(SPACE_2 - 2)
        below.addWidget(self._window_mark)
        below.addWidget(self._window_words)
        below.addStretch(1)
        below.addWidget(self._hint)
        below.addWidget(self._counter)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_4, SPACE_3, SPACE_4, SPACE_2)
        layout.setSpacing(SPACE_1 + 2)
        layout.addWidget(self._closed)
        layout.addLayout(row)
        layout.addLayout(below)

    # --- what the owner does ----------------------------------------------------------------------

    def show_conversation(self, contact: str, last_inbound_at: datetime | None, draft: str) -> None:
        """Write to someone else. Call `leave` before, so that the old draft is kept."""
        self._pause.stop()
        self.editor.setAccessibleName(f"Message to {contact}")
        self._draft_saved = draft
        self.editor.set_text(draft)
        self._pause.stop()
        self.set_last_inbound(last_inbound_at)

    def set_last_inbound(self, moment: datetime | None) -> None:
        """The customer's newest message opens the window."""
        self._last_inbound_at = moment
        self._show_window()

    def leave(self) -> None:
        """Save the draft now."""
        self._save_draft()

    def restore(self, text: str) -> None:
        """Give a text back to be edited; what was being written stays below it."""
        written = self.editor.text()
        self.editor.set_text(f"{text}\n{written}" if written.strip() else text)
        self.editor.setFocus()

    def type_text(self, text: str) -> None:
        """Text typed elsewhere: it goes on here."""
        if self.editor.isEnabled():
            self.editor.setFocus()
            self.editor.insertPlainText(text)

    @property
    def can_write(self) -> bool:
        """Whether the window is open."""
        return self._open

    # --- changes ----------------------------------------------------------------------------------

    def _on_text_changed(self) -> None:
        text = self.editor.text()
        left = TEXT_MAX_CHARS - len(text)
        near = left < _COUNT_FROM
        self._counter.setVisible(near)
        self._hint.setVisible(not near and bool(text) and self._open)
        if near:
            self._counter.setText(f"{left} left" if left >= 0 else f"{-left} too many")
            self._counter.set_token("danger_text" if left < 0 else "text_tertiary")
        ready = self._open and bool(text.strip()) and left >= 0
        self._send.setEnabled(ready)
        self._send.set_filled(ready)
        self._pause.start()

    def _submit(self) -> None:
        if not self._send.isEnabled():
            return
        text = self.editor.text().strip()
        self._pause.stop()
        self._draft_saved = ""
        self.editor.clear()
        self._pause.stop()
        self.submitted.emit(text)

    def _save_draft(self) -> None:
        self._pause.stop()
        text = self.editor.text()
        if text != self._draft_saved:
            self._draft_saved = text
            self.draft_changed.emit(text)

    def _show_window(self) -> None:
        closes = closes_at(self._last_inbound_at)
        left = closes - datetime.now(UTC) if closes is not None else None
        was_open, self._open = self._open, left is not None and left > timedelta(0)
        self._closed.setVisible(not self._open)
        for widget in (self._window_mark, self._window_words):
            widget.setVisible(self._open)
        if left is not None and self._open:
            ending = left < _ENDING
            self._window_mark.set_token("window_ending" if ending else "window_open")
            self._window_words.setText(f"Reply window: {time_left(left)} left")
            self._window_words.set_token("warning_text" if ending else "text_tertiary")
        else:
            self._closed.say(never_wrote=left is None)
        if was_open != self._open:
            self.editor.setReadOnly(not self._open)
            self._on_text_changed()


class _Field(QWidget):
    """The rounded ground of the text field, with the ring of the focus."""

    def __init__(self, editor: Editor) -> None:
        super().__init__()
        self._editor = editor
        editor.focused.connect(self.update)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_2, 2, SPACE_2, 2)
        layout.addWidget(editor)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        tokens = theme().tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        shape = QRectF(self.rect()).adjusted(0.75, 0.75, -0.75, -0.75)
        focused = self._editor.hasFocus() and not self._editor.isReadOnly()
        painter.setPen(QPen(tokens.focus if focused else tokens.border, 1.5 if focused else 1))
        painter.setBrush(tokens.surface if focused else tokens.surface_sunken)
        painter.drawRoundedRect(shape, RADIUS_LARGE + 3, RADIUS_LARGE + 3)
        painter.end()


class _Dot(QWidget):
    """The colour of the window's state beside its words."""

    def __init__(self) -> None:
        super().__init__()
        self._colour = "window_open"
        self.setFixedSize(8, 8)

    def set_token(self, token: str) -> None:
        self._colour = token
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(getattr(theme().tokens, self._colour))
        painter.drawEllipse(self.rect())
        painter.end()


class _ClosedNote(Panel):
    """Why nothing can be sent."""

    def __init__(self) -> None:
        super().__init__("warning_soft", radius=10)
        self._title = Label("", Role.SECONDARY_STRONG, "warning_text")
        self._words = Label("", Role.SECONDARY, "warning_text")
        self._words.setWordWrap(True)
        words = QVBoxLayout()
        words.setSpacing(1)
        words.addWidget(self._title)
        words.addWidget(self._words)
        row = QHBoxLayout(self)
        row.setContentsMargins(SPACE_3, SPACE_2, SPACE_3, SPACE_2)
        row.setSpacing(SPACE_3)
        row.addWidget(IconMark("lock", 20, "warning_text"), alignment=Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)

    def say(self, *, never_wrote: bool) -> None:
        self._title.setText(
            "This customer has not written yet" if never_wrote else "The reply window is closed"
        )
        self._words.setText(
            "WhatsApp allows free text for 24 hours after the customer’s last message. Until they write "
            "again, only an approved template can be sent, and this version cannot send templates yet."
        )
