"""What the inbox panel needs from whoever brings the conversations."""

from enum import Enum

from PySide6.QtCore import QObject, Signal

from desktop.cache.rows import InboxCounts, InboxQuery
from desktop.inbox.list_model import InboxListModel


class ListState(Enum):
    """What stands in the list's place. `NOTHING_MATCHES` and `ALL_READ` are emptiness under a filter."""

    LOADING = "loading"
    READY = "ready"
    EMPTY = "empty"
    NOTHING_MATCHES = "nothing matches"
    ALL_READ = "all read"
    FAILED = "failed"


class InboxFeed(QObject):
    """Rows, counts and the filter. `rows` stays the same object for good."""

    state_changed = Signal()
    counts_changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.rows = InboxListModel()
        self.query = InboxQuery()
        self.counts = InboxCounts(0, 0)
        self.state = ListState.LOADING
        self.failure = ""
        """Why the list could not be read, for `FAILED`."""

    def set_query(self, query: InboxQuery) -> None:
        """List other conversations, from the top."""
        raise NotImplementedError

    def want_more(self) -> None:
        """The reader comes near the end of the loaded rows. Called often."""
        raise NotImplementedError

    def read_again(self) -> None:
        """After a failure."""
        raise NotImplementedError
