"""Which rows of a conversation are loaded: a slice around the place being read.

    [ older at the relay | older in the cache | rows | newer in the cache ]

`older` and `newer` say what lies beyond each end. The slice grows when the reader comes near an end, and is
cut at the other end when it gets long. Pure data: no Qt, no I/O.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from desktop.cache.rows import Edge, MessagePosition, MessageRow, TimelineSlice

OPEN_ROWS: Final = 80
"""Enough for a tall screen and two more above it; every further row would only delay the first picture."""

EXTEND_ROWS: Final = 100
TRIM_ABOVE: Final = 400


class TimelineWindow:
    """Rows in ascending order of position, unique by key."""

    def __init__(self) -> None:
        self._rows: list[MessageRow] = []
        self._by_key: dict[UUID, MessageRow] = {}
        self.older = Edge.END
        self.newer = Edge.END
        self.complete = True

    @property
    def rows(self) -> list[MessageRow]:
        """Not to be changed by the reader."""
        return self._rows

    @property
    def at_end(self) -> bool:
        """Whether the newest message there is is loaded."""
        return self.newer is Edge.END

    def row(self, key: UUID) -> MessageRow | None:
        return self._by_key.get(key)

    def index_of(self, key: UUID) -> int | None:
        row = self._by_key.get(key)
        return None if row is None else bisect_left(self._rows, row.position, key=_position)

    def replace(self, part: TimelineSlice) -> None:
        """Show another place, or the same place read anew."""
        self._rows = list(part.rows)
        self._by_key = {row.key: row for row in part.rows}
        self.older, self.newer, self.complete = part.older, part.newer, part.complete

    def extend_older(self, part: TimelineSlice) -> None:
        self._insert(part.rows)
        self.older = part.older
        self.complete = self.complete and part.complete

    def extend_newer(self, part: TimelineSlice) -> None:
        self._insert(part.rows)
        self.newer = part.newer

    def merge(self, rows: Iterable[MessageRow], removed: Iterable[UUID] = ()) -> bool:
        """Apply what changed. Rows beyond an end that is not the conversation's own are left to paging.

        Says whether anything shown has changed.
        """
        changed = False
        for key in removed:
            changed |= self._remove(key)
        for row in rows:
            known = self._by_key.get(row.key)
            if known is not None and known.position == row.position:
                self._rows[bisect_left(self._rows, row.position, key=_position)] = row
                self._by_key[row.key] = row
                changed = True
                continue
            if known is not None:
                self._remove(row.key)
                changed = True
            if self._belongs(row.position):
                self._insert((row,))
                changed = True
        return changed

    def trim_older(self, keep: int) -> None:
        """Forget rows at the top, down to `keep`."""
        if len(self._rows) > keep:
            self._forget(slice(0, len(self._rows) - keep))
            self.older = Edge.CACHED

    def trim_newer(self, keep: int) -> None:
        """Forget rows at the bottom, down to `keep`."""
        if len(self._rows) > keep:
            self._forget(slice(keep, len(self._rows)))
            self.newer = Edge.CACHED

    def _belongs(self, position: MessagePosition) -> bool:
        if not self._rows:
            return self.older is Edge.END and self.newer is Edge.END
        if position < self._rows[0].position and self.older is not Edge.END:
            return False
        return position <= self._rows[-1].position or self.newer is Edge.END

    def _insert(self, rows: Iterable[MessageRow]) -> None:
        for row in rows:
            if row.key in self._by_key:
                self._remove(row.key)
            self._by_key[row.key] = row
            self._rows.insert(bisect_left(self._rows, row.position, key=_position), row)

    def _remove(self, key: UUID) -> bool:
        row = self._by_key.pop(key, None)
        if row is None:
            return False
        del self._rows[bisect_left(self._rows, row.position, key=_position)]
        return True

    def _forget(self, part: slice) -> None:
        for row in self._rows[part]:
            del self._by_key[row.key]
        del self._rows[part]


def _position(row: MessageRow) -> MessagePosition:
    return row.position
