"""The loaded rows of the inbox as an item model, newest activity first."""

from bisect import bisect_left
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, Qt

from desktop.cache.rows import ConversationRow, InboxPosition
from desktop.inbox.words import row_words

ROW = Qt.ItemDataRole.UserRole
_ROOT = QModelIndex()
_MOVES_AT_MOST = 40


class InboxListModel(QAbstractListModel):
    """Holds the loaded top of the list. `complete`: nothing lies below the last row."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[ConversationRow] = []
        self._by_id: dict[UUID, ConversationRow] = {}
        self.complete = False

    # --- for Qt -----------------------------------------------------------------------------------

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._rows)

    def data(
        self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole
    ) -> object:
        if not index.isValid():
            return None
        row = self._rows[index.row()]
        if role == ROW:
            return row
        if role == Qt.ItemDataRole.DisplayRole:
            return row.title
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return row_words(row, datetime.now(UTC))
        return None

    # --- for the feed and the panel ---------------------------------------------------------------

    @property
    def rows(self) -> list[ConversationRow]:
        """Not to be changed by the reader."""
        return self._rows

    def row(self, conversation_id: UUID) -> ConversationRow | None:
        return self._by_id.get(conversation_id)

    def index_of(self, conversation_id: UUID) -> int | None:
        row = self._by_id.get(conversation_id)
        return None if row is None else self._place(row.position)

    def last_position(self) -> InboxPosition | None:
        return self._rows[-1].position if self._rows else None

    def replace(self, rows: Iterable[ConversationRow], *, complete: bool) -> None:
        self.beginResetModel()
        self._rows = list(rows)
        self._by_id = {row.id: row for row in self._rows}
        self.complete = complete
        self.endResetModel()

    def extend(self, rows: Iterable[ConversationRow], *, complete: bool) -> None:
        """Add the next page. A row that came up meanwhile by an event is not added twice."""
        added = [row for row in rows if row.id not in self._by_id]
        self.complete = complete
        if not added:
            return
        start = len(self._rows)
        self.beginInsertRows(_ROOT, start, start + len(added) - 1)
        self._rows += added
        self._by_id.update((row.id, row) for row in added)
        self.endInsertRows()

    def merge(self, rows: Iterable[ConversationRow], removed: Iterable[UUID] = ()) -> None:
        """Apply what changed. Rows below the loaded part are left to paging."""
        rows = list(rows)
        if len(rows) > _MOVES_AT_MOST:
            self._merge_many(rows, set(removed))
            return
        for conversation_id in removed:
            self._remove(conversation_id)
        for row in rows:
            self._put(row)

    def _put(self, row: ConversationRow) -> None:
        known = self._by_id.get(row.id)
        if not self._belongs(row):
            if known is not None:
                self._remove(row.id)
            return
        if known is None:
            at = self._place(row.position)
            self.beginInsertRows(_ROOT, at, at)
            self._rows.insert(at, row)
            self._by_id[row.id] = row
            self.endInsertRows()
            return
        old = self._place(known.position)
        new = self._place(row.position)
        if new not in {old, old + 1}:
            self.beginMoveRows(_ROOT, old, old, _ROOT, new)
            del self._rows[old]
            self._rows.insert(new - (new > old), row)
            self.endMoveRows()
            old = new - (new > old)
        self._rows[old] = row
        self._by_id[row.id] = row
        changed = self.index(old)
        self.dataChanged.emit(changed, changed)

    def _merge_many(self, rows: list[ConversationRow], removed: set[UUID]) -> None:
        """One change of layout instead of many moves; what was current stays current."""
        self.layoutAboutToBeChanged.emit()
        before = self.persistentIndexList()
        held = [self._rows[index.row()].id for index in before]
        merged = {**self._by_id, **{row.id: row for row in rows}}
        kept = [row for row in merged.values() if row.id not in removed and self._belongs(row)]
        self._rows = sorted(kept, key=lambda row: row.position, reverse=True)
        self._by_id = {row.id: row for row in self._rows}
        places = {row.id: at for at, row in enumerate(self._rows)}
        after = [self.index(places[each]) if each in places else QModelIndex() for each in held]
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit()

    def _remove(self, conversation_id: UUID) -> None:
        row = self._by_id.get(conversation_id)
        if row is None:
            return
        at = self._place(row.position)
        self.beginRemoveRows(_ROOT, at, at)
        del self._rows[at]
        del self._by_id[conversation_id]
        self.endRemoveRows()

    def _belongs(self, row: ConversationRow) -> bool:
        return self.complete or (bool(self._rows) and row.position >= self._rows[-1].position)

    def _place(self, position: InboxPosition) -> int:
        return bisect_left(self._rows, _descending(position), key=lambda row: _descending(row.position))


def _descending(position: InboxPosition) -> tuple[int, int]:
    return -position.at, -position.id.int
