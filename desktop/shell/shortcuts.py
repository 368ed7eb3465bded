"""Every shortcut of the window in one table: it makes the actions and fills the sheet (Ctrl+/)."""

from enum import Enum
from typing import Final, NamedTuple

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from desktop.ui.buttons import Button, Kind
from desktop.ui.type_scale import SPACE_2, SPACE_3, SPACE_4, SPACE_5, Role
from desktop.ui.widgets import Label, Panel


class Command(Enum):
    SEARCH = "search"
    PREVIOUS = "previous conversation"
    NEXT = "next conversation"
    NEXT_SECTION = "next section"
    PREVIOUS_SECTION = "previous section"
    NEWEST = "newest message"
    ZOOM_IN = "larger text"
    ZOOM_OUT = "smaller text"
    ZOOM_RESET = "normal text"
    SHEET = "shortcuts"
    QUIT = "quit"


class Shortcut(NamedTuple):
    """`keys`: any of them; the first is shown."""

    command: Command
    keys: tuple[str, ...]
    words: str


SHORTCUTS: Final = (
    Shortcut(Command.SEARCH, ("Ctrl+K", "Ctrl+F"), "Find a conversation"),
    Shortcut(Command.PREVIOUS, ("Alt+Up",), "Conversation above"),
    Shortcut(Command.NEXT, ("Alt+Down",), "Conversation below"),
    Shortcut(Command.NEXT_SECTION, ("F6",), "Next part of the window"),
    Shortcut(Command.PREVIOUS_SECTION, ("Shift+F6",), "Previous part of the window"),
    Shortcut(Command.NEWEST, ("Ctrl+J",), "Newest message"),
    Shortcut(Command.ZOOM_IN, ("Ctrl++", "Ctrl+="), "Larger messages"),
    Shortcut(Command.ZOOM_OUT, ("Ctrl+-",), "Smaller messages"),
    Shortcut(Command.ZOOM_RESET, ("Ctrl+0",), "Messages in normal size"),
    Shortcut(Command.SHEET, ("Ctrl+/",), "This list"),
    Shortcut(Command.QUIT, ("Ctrl+Q",), "Quit"),
)

_WRITING: Final = (
    ("Enter", "Send"),
    ("Shift+Enter", "New line"),
    ("Esc", "From the list or the messages to the composer"),
    ("Up / Down", "Message by message"),
    ("Page Up / Page Down", "Screen by screen"),
    ("Home / End", "Oldest loaded and newest message"),
    ("Ctrl+C", "Copy the selection or the message"),
    ("Menu", "What can be done with a message"),
)


class ShortcutSheet(QDialog):
    """The list of shortcuts."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keyboard shortcuts")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        columns = QHBoxLayout()
        columns.setSpacing(SPACE_5)
        columns.addWidget(_column("Everywhere", [(each.keys[0], each.words) for each in SHORTCUTS]))
        columns.addWidget(_column("Writing and reading", list(_WRITING)))
        close = Button("Close", Kind.TINTED)
        close.clicked.connect(self.accept)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_5, SPACE_5, SPACE_5, SPACE_4)
        layout.setSpacing(SPACE_4)
        layout.addWidget(Label("Keyboard shortcuts", Role.TITLE))
        layout.addLayout(columns)
        layout.addWidget(close, alignment=Qt.AlignmentFlag.AlignRight)


def _column(heading: str, rows: list[tuple[str, str]]) -> QWidget:
    column = QWidget()
    grid = QGridLayout(column)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(SPACE_3)
    grid.setVerticalSpacing(SPACE_2)
    grid.addWidget(Label(heading, Role.SECONDARY_STRONG, "accent_text"), 0, 0, 1, 2)
    for number, (keys, words) in enumerate(rows, start=1):
        cap = Panel("surface_sunken", radius=6, outline="border")
        inside = QHBoxLayout(cap)
        inside.setContentsMargins(SPACE_2, 3, SPACE_2, 3)
        inside.addWidget(Label(keys, Role.CAPTION_STRONG, "text_secondary"))
        grid.addWidget(cap, number, 0, Qt.AlignmentFlag.AlignLeft)
        grid.addWidget(Label(words, Role.SECONDARY), number, 1)
    grid.setRowStretch(len(rows) + 1, 1)
    grid.setColumnStretch(1, 1)
    return column
