"""What the view needs from whoever brings the messages: the real model, or the gallery's invented people."""

from uuid import UUID

from PySide6.QtCore import QObject, Signal

from desktop.cache.rows import MessageRow
from desktop.timeline.elements.bubble import Speakers
from desktop.timeline.hit import Action
from desktop.timeline.window import TimelineWindow


class TimelineFeed(QObject):
    """A window of rows, and requests to move it. The requests may be answered at once or later."""

    opened = Signal()
    """Another conversation is shown, from a place of its own choice (`unread_from`, else the end)."""

    changed = Signal()
    """`window` has other rows; the reader keeps the place."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.window = TimelineWindow()
        self.speakers = Speakers("", None)
        self.unread_from: UUID | None = None

    def want_older(self) -> None:
        """The reader comes near the top. Called often; asking twice for the same is for the feed to avoid."""
        raise NotImplementedError

    def want_newer(self) -> None:
        """The reader comes near the bottom of what is loaded."""
        raise NotImplementedError

    def want_newest(self) -> None:
        """Show the end of the conversation; emits `opened` if that is another place."""
        raise NotImplementedError

    def seen(self, row: MessageRow) -> None:
        """The newest message that has been on screen."""
        raise NotImplementedError

    def act(self, row: MessageRow, action: Action) -> None:
        """The agent pressed one of a message's actions."""
        raise NotImplementedError
