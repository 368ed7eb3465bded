"""The main window: puts the parts together, carries the shortcuts, and remembers where it stood."""

from collections.abc import Callable
from typing import Final

from PySide6.QtCore import QByteArray, QEvent, QSettings, Qt, QUrl, Signal
from PySide6.QtGui import QCloseEvent, QDesktopServices, QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import QHBoxLayout, QSplitter, QStackedWidget, QVBoxLayout, QWidget

from desktop.cache.rows import ConversationRow
from desktop.engine.events import ConnectionChanged, Phase
from desktop.inbox.feed import InboxFeed
from desktop.inbox.panel import InboxPanel
from desktop.shell.banner import OfflineBanner
from desktop.shell.chat_pane import ChatPane
from desktop.shell.rail import Rail
from desktop.shell.shortcuts import SHORTCUTS, Command, ShortcutSheet
from desktop.signin.view import SignInView
from desktop.timeline.feed import TimelineFeed
from desktop.timeline.metrics import ZOOM_STEPS
from desktop.ui import icon
from desktop.ui.toast import Toasts
from desktop.ui.widgets import EmptyState, Panel
from shared.wire.auth import Me

_TITLE: Final = "Relaydesk"
_SIZE: Final = (1180, 780)
_INBOX_WIDTH: Final = 348
_INBOX_MIN: Final = 264
_CHAT_MIN: Final = 380


class MainWindow(QWidget):
    """Knows feeds, not where they get their rows from. `closed` asks the owner to end the program."""

    conversation_chosen = Signal(object)
    """A `ConversationRow` that is not the open one."""

    active_changed = Signal()
    closed = Signal()

    def __init__(self, inbox: InboxFeed, timeline: TimelineFeed, settings: QSettings | None = None) -> None:
        super().__init__()
        self._settings = settings
        self._unread = 0
        self._tenant = ""
        self.rail = Rail()
        self.inbox = InboxPanel(inbox)
        self.chat = ChatPane(timeline)
        self.banner = OfflineBanner()
        self.sign_in = SignInView()
        self.trouble = EmptyState("alert", "", "")
        self._pages = QStackedWidget()
        self.toasts = Toasts(self, self.chat.view)
        self.setWindowTitle(_TITLE)
        self.setWindowIcon(icon.application_icon())
        self.setMinimumSize(720, 460)
        self._build()
        self._wire()
        self._make_shortcuts()
        inbox.counts_changed.connect(lambda: self.show_unread(inbox.counts.unread))
        self._restore_geometry()
        self.inbox.list.setFocus()

    def _build(self) -> None:
        self._splitter = QSplitter(Qt.Orientation.Horizontal)
        self._splitter.setHandleWidth(1)
        self._splitter.setChildrenCollapsible(False)
        self.inbox.setMinimumWidth(_INBOX_MIN)
        self.chat.setMinimumWidth(_CHAT_MIN)
        self._splitter.addWidget(self.inbox)
        self._splitter.addWidget(self.chat)
        self._splitter.setStretchFactor(1, 1)
        self._splitter.setSizes([_INBOX_WIDTH, _SIZE[0] - _INBOX_WIDTH])
        right = QVBoxLayout()
        right.setSpacing(0)
        right.addWidget(self.banner)
        right.addWidget(self._splitter, 1)
        main = QWidget()
        row = QHBoxLayout(main)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.rail)
        row.addLayout(right, 1)
        trouble = Panel("window")
        QVBoxLayout(trouble).addWidget(self.trouble)
        for page in (main, self.sign_in, trouble):
            self._pages.addWidget(page)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._pages)

    def _wire(self) -> None:
        self.inbox.opened.connect(self._choose)
        self.inbox.leave_requested.connect(self.focus_composer)
        self.inbox.typed.connect(self._type_into_composer)
        self.chat.composer.left.connect(self._on_composer_left)
        self.chat.view.link_activated.connect(lambda link: QDesktopServices.openUrl(QUrl(link)))
        self.rail.inbox_requested.connect(self.inbox.list.setFocus)
        self.rail.shortcuts_requested.connect(self.show_shortcuts)

    def _make_shortcuts(self) -> None:
        commands: dict[Command, Callable[[], object]] = {
            Command.SEARCH: self.inbox.focus_search,
            Command.PREVIOUS: lambda: self.inbox.step(-1),
            Command.NEXT: lambda: self.inbox.step(1),
            Command.NEXT_SECTION: lambda: self._next_section(1),
            Command.PREVIOUS_SECTION: lambda: self._next_section(-1),
            Command.NEWEST: self.chat.view.jump_to_newest,
            Command.ZOOM_IN: lambda: self._zoom(1),
            Command.ZOOM_OUT: lambda: self._zoom(-1),
            Command.ZOOM_RESET: lambda: self.chat.view.set_zoom(1.0),
            Command.SHEET: self.show_shortcuts,
            Command.QUIT: self.close,
        }
        for each in SHORTCUTS:
            made = QShortcut(self)
            made.setKeys([QKeySequence(keys) for keys in each.keys])
            made.activated.connect(commands[each.command])

    @property
    def page(self) -> str:
        """Which page is shown: `main`, `sign-in` or `trouble`."""
        return ("main", "sign-in", "trouble")[self._pages.currentIndex()]

    # --- what the owner does ----------------------------------------------------------------------

    def show_main(self) -> None:
        self._pages.setCurrentIndex(0)
        self.inbox.list.setFocus()

    def show_sign_in(self) -> None:
        self._pages.setCurrentIndex(1)
        self.sign_in.focus_first_empty()

    def show_trouble(
        self, title: str, text: str, offer: str = "", action: Callable[[], None] | None = None
    ) -> None:
        """The cache cannot be opened: nothing else can be shown."""
        self.trouble.show_words("alert", title, text, grave=True)
        self.trouble.offer(offer, action)
        self._pages.setCurrentIndex(2)

    def show_conversation(self, row: ConversationRow, draft: str) -> None:
        """The owner has taken up `conversation_chosen`."""
        self.chat.show_conversation(row, draft)
        self.inbox.select(row.id)
        self.focus_composer()

    def show_me(self, me: Me) -> None:
        self.rail.show_me(me.user.name or me.user.email, me.user.email, me.tenant.name, me.user.id)
        self._tenant = me.tenant.name
        self._write_title()

    def show_connection(self, state: ConnectionChanged) -> None:
        self.banner.show_connection(state)
        words = {Phase.CONNECTING: "Connecting…", Phase.OFFLINE: "Offline"}.get(state.phase, "")
        if state.phase is Phase.ONLINE and state.syncing:
            words = "Updating…"
        self.inbox.status.setText(words)

    def show_unread(self, count: int) -> None:
        """On the rail, in the title and on the program's icon."""
        self._unread = count
        self.rail.show_unread(count)
        self._write_title()
        app = QGuiApplication.instance()
        if isinstance(app, QGuiApplication):
            app.setBadgeNumber(count)

    def show_shortcuts(self) -> None:
        ShortcutSheet(self).open()

    def focus_composer(self) -> None:
        if self.chat.open_id is not None:
            (self.chat.composer.editor if self.chat.composer.can_write else self.chat.view).setFocus()

    # --- inside -----------------------------------------------------------------------------------

    def _write_title(self) -> None:
        name = f"{self._tenant} – {_TITLE}" if self._tenant else _TITLE
        self.setWindowTitle(f"({self._unread}) {name}" if self._unread else name)

    def _choose(self, row: ConversationRow) -> None:
        if row.id == self.chat.open_id:
            self.focus_composer()
        else:
            self.conversation_chosen.emit(row)

    def _type_into_composer(self, text: str) -> None:
        if self.chat.open_id is not None:
            self.chat.composer.type_text(text)

    def _on_composer_left(self) -> None:
        """Escape in the composer: to the messages, which can be walked with the arrows."""
        self.chat.view.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def _next_section(self, step: int) -> None:
        """F6: search, list, messages, composer, rail, and around."""
        sections: list[QWidget] = [self.inbox.search, self.inbox.list]
        if self.chat.open_id is not None:
            sections += [self.chat.view, self.chat.composer.editor]
        sections.append(self.rail.first_button())
        current = next((i for i, each in enumerate(sections) if each.hasFocus()), -1 if step > 0 else 0)
        sections[(current + step) % len(sections)].setFocus(Qt.FocusReason.ShortcutFocusReason)

    def _zoom(self, step: int) -> None:
        view = self.chat.view
        nearest = min(range(len(ZOOM_STEPS)), key=lambda index: abs(ZOOM_STEPS[index] - view.zoom))
        view.set_zoom(ZOOM_STEPS[max(0, min(len(ZOOM_STEPS) - 1, nearest + step))])

    def _restore_geometry(self) -> None:
        self.resize(*_SIZE)
        if self._settings is None:
            return
        geometry, split = self._settings.value("window/geometry"), self._settings.value("window/split")
        if isinstance(geometry, QByteArray):
            self.restoreGeometry(geometry)
        if isinstance(split, QByteArray):
            self._splitter.restoreState(split)
        zoom = self._settings.value("chat/zoom", 1.0, type=float)
        self.chat.view.set_zoom(zoom if zoom in ZOOM_STEPS else 1.0)

    def remember(self) -> None:
        """Keep size, place and zoom for the next start."""
        if self._settings is not None:
            self._settings.setValue("window/geometry", self.saveGeometry())
            self._settings.setValue("window/split", self._splitter.saveState())
            self._settings.setValue("chat/zoom", self.chat.view.zoom)

    def closeEvent(self, event: QCloseEvent) -> None:
        self.chat.composer.leave()
        self.remember()
        event.accept()
        self.closed.emit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() is QEvent.Type.ActivationChange:
            self.active_changed.emit()
