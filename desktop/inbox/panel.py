"""The inbox column: title, search, filters, and the list or the reason why it is empty."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from PySide6.QtCore import QEvent, QItemSelectionModel, QModelIndex, QObject, QRect, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QListView,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from desktop.cache.rows import ConversationRow, InboxQuery
from desktop.inbox.delegate import InboxDelegate, paint_skeleton, row_height
from desktop.inbox.feed import InboxFeed, ListState
from desktop.inbox.list_model import ROW
from desktop.ui import icon
from desktop.ui.buttons import paint_focus_ring
from desktop.ui.theme import theme
from desktop.ui.type_scale import SPACE_1, SPACE_2, SPACE_3, SPACE_4, Role, font, scale
from desktop.ui.widgets import EmptyState, Label, Panel

_SEARCH_PAUSE_MS: Final = 120
_CLOCK_MS: Final = 20_000
_SCREENS_AHEAD: Final = 2


class InboxPanel(Panel):
    """Emits `opened` with the conversation that the person chose."""

    opened = Signal(object)
    leave_requested = Signal()
    """Enter or Escape in the list: the person goes on to the conversation."""

    typed = Signal(str)

    def __init__(self, feed: InboxFeed, parent: QWidget | None = None) -> None:
        super().__init__("surface", parent)
        self._feed = feed
        self._open_id: UUID | None = None
        self.status = Label("", Role.CAPTION, "text_tertiary")
        self.search = QLineEdit(placeholderText="Search name or number")
        self.search.setAccessibleName("Search conversations")
        self.search.setClearButtonEnabled(True)
        self.search.addAction(icon.icon("search", "icon_muted"), QLineEdit.ActionPosition.LeadingPosition)
        self._pause = QTimer(self, singleShot=True, interval=_SEARCH_PAUSE_MS)
        self._pause.timeout.connect(self._apply_filter)
        self.search.textChanged.connect(self._pause.start)
        self.search.installEventFilter(self)
        self.all_filter = _FilterChip("All")
        self.unread_filter = _FilterChip("Unread")
        self.all_filter.setChecked(True)
        for chip in (self.all_filter, self.unread_filter):
            chip.toggled.connect(self._apply_filter)
        self.list = InboxListView()
        self.list.setModel(feed.rows)
        self.list.activated_row.connect(self._open)
        self.list.typed.connect(self.typed)
        self.list.left.connect(self.leave_requested)
        self.list.near_end.connect(feed.want_more)
        self.empty = EmptyState("inbox", "", "")
        self._pages = QStackedWidget()
        for page in (self.list, _Skeleton(), self.empty):
            self._pages.addWidget(page)
        self._build()
        feed.state_changed.connect(self._on_state_changed)
        feed.counts_changed.connect(self._on_counts_changed)
        self._clock = QTimer(self, interval=_CLOCK_MS)
        self._clock.timeout.connect(self.list.tick)
        self._clock.start()
        self._on_state_changed()
        self._on_counts_changed()

    def _build(self) -> None:
        head = QHBoxLayout()
        head.setContentsMargins(SPACE_1, 0, SPACE_1, 0)
        head.addWidget(Label("Inbox", Role.TITLE))
        head.addStretch(1)
        head.addWidget(self.status)
        chips = QHBoxLayout()
        chips.setSpacing(SPACE_2)
        chips.addWidget(self.all_filter)
        chips.addWidget(self.unread_filter)
        chips.addStretch(1)
        top = QVBoxLayout()
        top.setContentsMargins(SPACE_4, SPACE_4, SPACE_4, SPACE_2)
        top.setSpacing(SPACE_3)
        top.addLayout(head)
        top.addWidget(self.search)
        top.addLayout(chips)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE_1)
        layout.addLayout(top)
        layout.addWidget(self._pages, 1)

    # --- what the shell asks ----------------------------------------------------------------------

    def focus_search(self) -> None:
        self.search.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.search.selectAll()

    def select(self, conversation_id: UUID) -> None:
        """Mark a conversation as the open one, without opening it."""
        self._open_id = conversation_id
        at = self._feed.rows.index_of(conversation_id)
        if at is not None:
            self.list.make_current(at)

    def step(self, by: int) -> None:
        """Open the conversation above (-1) or below (1) the open one."""
        rows = self._feed.rows.rowCount()
        current = self._feed.rows.index_of(self._open_id) if self._open_id is not None else None
        target = (0 if by > 0 else rows - 1) if current is None else current + by
        if 0 <= target < rows:
            self.list.make_current(target)
            self._open(self._feed.rows.rows[target])

    # --- changes ----------------------------------------------------------------------------------

    def _apply_filter(self) -> None:
        query = InboxQuery(search=self.search.text().strip(), unread_only=self.unread_filter.isChecked())
        if query != self._feed.query:
            self._feed.set_query(query)
            self.list.scrollToTop()

    def _on_counts_changed(self) -> None:
        unread = self._feed.counts.unread
        self.unread_filter.setText(f"Unread {unread}" if unread else "Unread")

    def _on_state_changed(self) -> None:
        state, empty = self._feed.state, self.empty
        action: Callable[[], None] | None = None
        words = ""
        match state:
            case ListState.EMPTY:
                empty.show_words(
                    "inbox",
                    "No conversations yet",
                    "When a customer writes to your number, they appear here.",
                )
            case ListState.NOTHING_MATCHES:
                empty.show_words(
                    "search", "No one found", "Names, user names and numbers are searched. Try fewer letters."
                )
                words, action = "Clear search", self.search.clear
            case ListState.ALL_READ:
                empty.show_words("check", "All read", "Nobody is waiting for an answer to something new.")
                words, action = "Show all", self._show_all
            case ListState.FAILED:
                empty.show_words("alert", "The inbox cannot be read", self._feed.failure, grave=True)
                words, action = "Try again", self._feed.read_again
        empty.offer(words, action)
        self._pages.setCurrentIndex({ListState.READY: 0, ListState.LOADING: 1}.get(state, 2))

    def _show_all(self) -> None:
        self.all_filter.setChecked(True)

    def _open(self, row: ConversationRow) -> None:
        self._open_id = row.id
        self.opened.emit(row)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Down leads from the search into the list; Escape clears it, then leaves."""
        if watched is self.search and isinstance(event, QKeyEvent) and event.type() is QEvent.Type.KeyPress:
            if event.key() == Qt.Key.Key_Down and self._feed.rows.rowCount():
                if not self.list.currentIndex().isValid():
                    self.list.make_current(0)
                self.list.setFocus(Qt.FocusReason.TabFocusReason)
                return True
            if event.key() in {Qt.Key.Key_Return, Qt.Key.Key_Enter} and self._feed.rows.rowCount():
                self.list.make_current(0)
                self._open(self._feed.rows.rows[0])
                return True
            if event.key() == Qt.Key.Key_Escape:
                if self.search.text():
                    self.search.clear()
                else:
                    self.leave_requested.emit()
                return True
        return super().eventFilter(watched, event)


class InboxListView(QListView):
    """The list itself. A click or Enter opens; arrows move without opening."""

    activated_row = Signal(object)
    left = Signal()
    near_end = Signal()
    typed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._delegate = InboxDelegate(self)
        self.setItemDelegate(self._delegate)
        self.setUniformItemSizes(True)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setMouseTracking(True)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setAccessibleName("Conversations")
        self.verticalScrollBar().setSingleStep(round(row_height() / 3))
        self.verticalScrollBar().valueChanged.connect(self._on_scrolled)
        self.verticalScrollBar().rangeChanged.connect(self._on_scrolled)
        self.clicked.connect(self._on_clicked)
        theme().changed.connect(self.viewport().update)

    def tick(self) -> None:
        """Time has passed: paint clocks and countdowns anew."""
        self._delegate.now = datetime.now(UTC)
        self.viewport().update()

    def make_current(self, at: int) -> None:
        index = self.model().index(at, 0)
        self.selectionModel().setCurrentIndex(index, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        self.scrollTo(index)

    def paintEvent(self, event: QPaintEvent) -> None:
        self._delegate.now = datetime.now(UTC)
        painter = QPainter(self.viewport())
        painter.fillRect(event.rect(), theme().tokens.surface)
        painter.end()
        super().paintEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = event.key()
        if key in {Qt.Key.Key_Return, Qt.Key.Key_Enter}:
            if self.currentIndex().isValid():
                self.activated_row.emit(self.currentIndex().data(ROW))
                self.left.emit()
        elif key == Qt.Key.Key_Escape:
            self.left.emit()
        elif (
            event.text().isprintable()
            and event.text()
            and not event.modifiers()
            & (
                Qt.KeyboardModifier.ControlModifier
                | Qt.KeyboardModifier.MetaModifier
                | Qt.KeyboardModifier.AltModifier
            )
        ):
            self.typed.emit(event.text())
        else:
            super().keyPressEvent(event)

    def _on_clicked(self, index: QModelIndex) -> None:
        self.activated_row.emit(index.data(ROW))

    def _on_scrolled(self) -> None:
        bar = self.verticalScrollBar()
        if bar.maximum() - bar.value() < _SCREENS_AHEAD * self.viewport().height():
            self.near_end.emit()


class _FilterChip(QAbstractButton):
    """One of the filters over the list; exactly one is on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.setText(text)
        self.setCheckable(True)
        self.setAutoExclusive(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setFont(font(Role.SECONDARY_STRONG))

    def setText(self, text: str) -> None:
        super().setText(text)
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        metrics = self.fontMetrics()
        return QSize(metrics.horizontalAdvance(self.text()) + 24, metrics.height() + round(10 * scale()))

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        tokens = theme().tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        shape = self.rect().toRectF().adjusted(1, 1, -1, -1)
        radius = shape.height() / 2
        painter.setPen(Qt.PenStyle.NoPen)
        ground = (
            tokens.accent_soft
            if self.isChecked()
            else tokens.surface_pressed
            if self.underMouse()
            else tokens.surface_sunken
        )
        painter.setBrush(ground)
        painter.drawRoundedRect(shape, radius, radius)
        if self.hasFocus():
            paint_focus_ring(painter, shape, radius, tokens)
        painter.setPen(tokens.accent_text if self.isChecked() else tokens.text_secondary)
        painter.setFont(self.font())
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self.text())
        painter.end()


class _Skeleton(QWidget):
    """Grey rows while the list is being read."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Loading conversations")

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        tokens = theme().tokens
        painter = QPainter(self)
        for top in range(0, self.height(), row_height()):
            rect = QRect(0, top, self.width(), row_height())
            paint_skeleton(painter, rect, tokens, mirrored=self.isRightToLeft())
        painter.end()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.update()
