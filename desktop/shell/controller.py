"""Ties the window to the engine: who is signed in, which conversation is open, what needs words."""

import asyncio
import logging
from typing import NamedTuple
from uuid import UUID

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QGuiApplication

from desktop.bridge import dialogs, tasks
from desktop.bridge.bridge import Bridge
from desktop.cache.rows import ConversationRow, MessageRow, UnsentMessage
from desktop.engine.events import (
    CacheUnavailable,
    ConnectionChanged,
    ConversationsChanged,
    Event,
    SessionRevoked,
    SignedIn,
    SignInRequired,
    Trouble,
    TroubleOver,
)
from desktop.errors import UserFacing
from desktop.inbox.model import InboxModel
from desktop.shell.confirm import ConfirmDialog
from desktop.shell.window import MainWindow
from desktop.signin.view import Credentials
from desktop.timeline import accessible
from desktop.timeline.model import TimelineModel
from shared.content import summary

log = logging.getLogger("desktop.shell")

_FIELD_OF_CODE = {
    "unreachable": "relay",
    "bad_address": "relay",
    "not_the_relay": "relay",
    "not_understood": "relay",
    "invalid_request": "email",
}


class Unattended(NamedTuple):
    """Who to sign in as without asking, for demonstrations and tests."""

    relay_url: str
    email: str
    password: str


class Controller(QObject):
    """Lives as long as the window."""

    opened = Signal(object)
    """A `ConversationRow` is on screen now."""

    def __init__(
        self,
        bridge: Bridge,
        window: MainWindow,
        inbox: InboxModel,
        timeline: TimelineModel,
        *,
        relay_url: str = "",
        email: str = "",
        unattended: Unattended | None = None,
    ) -> None:
        super().__init__(window)
        self._bridge = bridge
        self._window = window
        self._inbox = inbox
        self._timeline = timeline
        self._relay_url = relay_url
        self._email = email
        self._unattended = unattended
        self._me: UUID | None = None
        self._saving: set[asyncio.Task[None]] = set()
        bridge.events.connect(self._on_events)
        window.conversation_chosen.connect(self._on_chosen)
        window.active_changed.connect(self._on_active_changed)
        window.sign_in.submitted.connect(self._on_credentials)
        window.banner.retry_requested.connect(self._on_retry)
        window.rail.sign_out_requested.connect(self._on_sign_out)
        composer = window.chat.composer
        composer.submitted.connect(timeline.send)
        composer.draft_changed.connect(self._on_draft_changed)
        timeline.text_returned.connect(composer.restore)
        timeline.deleted.connect(self._on_deleted)
        timeline.sent.connect(window.chat.view.jump_to_newest)
        timeline.arrived.connect(self._on_arrived)
        tasks.show_errors_with(self._show_error)

    # --- events of the engine ---------------------------------------------------------------------

    def _on_events(self, batch: tuple[Event, ...]) -> None:
        window = self._window
        for event in batch:
            match event:
                case ConnectionChanged():
                    window.show_connection(event)
                case SignedIn(me=me):
                    self._me = me.user.id
                    window.sign_in.show_busy(False)
                    window.sign_in.password.clear()
                    window.show_me(me)
                    window.show_main()
                case SignInRequired():
                    self._on_sign_in_required(event)
                case SessionRevoked(lost=lost):
                    self._on_revoked(lost)
                case CacheUnavailable():
                    self._on_cache_unavailable(event)
                case ConversationsChanged(rows=rows, removed=removed):
                    self._on_conversations(rows, removed)
                case Trouble(code=code, title=title, advice=advice):
                    window.toasts.show(code, title, advice, error=True)
                case TroubleOver(code=code):
                    window.toasts.dismiss(code)

    def _on_conversations(self, rows: tuple[ConversationRow, ...], removed: tuple[UUID, ...]) -> None:
        open_id = self._window.chat.open_id
        if open_id in removed:
            self._close_conversation()
            self._window.toasts.show("gone", "This conversation is no longer visible to you.")
        for row in rows:
            if row.id == open_id:
                self._window.chat.update_head(row)

    # --- signing in and out -----------------------------------------------------------------------

    def _on_sign_in_required(self, event: SignInRequired) -> None:
        self._me = None
        self._close_conversation()
        view = self._window.sign_in
        view.prefill(
            event.relay_url or self._relay_url,
            event.email or self._email,
            can_remember=event.can_remember,
            why_not=event.why_not,
        )
        self._window.show_sign_in()
        if self._unattended is not None:
            relay_url, email, password = self._unattended
            self._unattended = None
            view.prefill(relay_url, email, can_remember=event.can_remember, why_not=event.why_not)
            self._on_credentials(Credentials(relay_url, email, password, event.can_remember))

    def _on_credentials(self, given: Credentials) -> None:
        self._window.sign_in.show_busy(True)
        tasks.spawn(self._sign_in(given), name="sign in", owner=self)

    async def _sign_in(self, given: Credentials) -> None:
        try:
            await self._bridge.call(
                lambda engine: engine.sign_in(
                    given.relay_url, given.email, given.password, remember=given.remember
                )
            )
        except UserFacing as error:
            log.warning("signing in failed: %s (%s)", error.title, error.code)
            field = _FIELD_OF_CODE.get(error.code, "password")
            self._window.sign_in.show_error(error.title, error.advice, at=field)
        except TimeoutError:
            self._window.sign_in.show_error(
                "The relay does not answer.",
                "Check the address and your connection, then try again.",
                at="relay",
            )

    def _on_sign_out(self) -> None:
        tasks.spawn(self._sign_out(), name="sign out", owner=self)

    async def _sign_out(self) -> None:
        question = ConfirmDialog(
            self._window,
            "Sign out?",
            "The messages kept on this computer are deleted. They stay at the relay.",
            "Sign out",
        )
        if not await _agreed(question):
            return
        try:
            await self._bridge.call(lambda engine: engine.sign_out())
        except UserFacing as error:
            if error.code != "unsent_left":
                raise
            again = ConfirmDialog(self._window, error.title, error.advice, "Delete and sign out", grave=True)
            if await _agreed(again):
                await self._bridge.call(lambda engine: engine.sign_out(discard_unsent=True))

    def _on_revoked(self, lost: tuple[UnsentMessage, ...]) -> None:
        texts = "\n\n".join(f"{each.contact}: {each.text}" for each in lost)
        advice = "Its messages were deleted from this computer; they stay at the relay."
        if lost:
            count = "One message was" if len(lost) == 1 else f"{len(lost)} messages were"
            advice += f" {count} never sent."
        self._window.toasts.show(
            "revoked",
            "This computer was signed out from elsewhere.",
            advice,
            error=True,
            action=("Copy the unsent texts", lambda: QGuiApplication.clipboard().setText(texts))
            if lost
            else None,
        )

    def _on_cache_unavailable(self, event: CacheUnavailable) -> None:
        waiting = f" {event.unsent} unsent messages are in it." if event.unsent else ""
        offer = (
            ("Load everything again", self._on_rebuild)
            if event.can_rebuild
            else ("Try again", self._on_reopen)
        )
        self._window.show_trouble(event.title, event.advice + waiting, *offer)

    def _on_rebuild(self) -> None:
        tasks.spawn(self._rebuild(), name="rebuild the cache", owner=self)

    async def _rebuild(self) -> None:
        question = ConfirmDialog(
            self._window,
            "Load everything again?",
            "The unreadable file is kept aside, and the messages come from the relay once more.",
            "Load again",
        )
        if await _agreed(question):
            await self._bridge.call(lambda engine: engine.rebuild_cache())

    def _on_reopen(self) -> None:
        tasks.spawn(self._reopen(), name="open the cache again", owner=self)

    async def _reopen(self) -> None:
        await self._bridge.call(lambda engine: engine.reopen())

    # --- conversations ----------------------------------------------------------------------------

    def _on_chosen(self, row: ConversationRow) -> None:
        tasks.spawn(self._open(row), name="open a conversation", owner=self)

    async def _open(self, row: ConversationRow) -> None:
        self._window.chat.composer.leave()
        if not await self._timeline.open(row, self._me):
            return
        current = self._inbox.rows.row(row.id) or row
        self._inbox.open_id = row.id
        self._window.show_conversation(current, current.draft)
        self._timeline.show_opened()
        self.opened.emit(current)

    def _close_conversation(self) -> None:
        if self._window.chat.open_id is not None:
            self._window.chat.close_conversation()
            self._inbox.open_id = None
            self._timeline.close()

    def _on_draft_changed(self, text: str) -> None:
        conversation = self._window.chat.open_id
        if conversation is not None and self._me is not None:
            task = tasks.spawn(self._save_draft(conversation, text), name="save a draft", owner=self)
            self._saving.add(task)
            task.add_done_callback(self._saving.discard)

    def drafts_being_saved(self) -> set[asyncio.Task[None]]:
        """To be waited for before the engine stops."""
        return set(self._saving)

    async def _save_draft(self, conversation: UUID, text: str) -> None:
        await self._bridge.call(lambda engine: engine.save_draft(conversation, text))

    def _on_deleted(self, text: str) -> None:
        self._window.toasts.show(
            "deleted",
            "Message deleted",
            action=("Put it back", lambda: self._window.chat.composer.restore(text)),
        )

    def _on_arrived(self, row: MessageRow) -> None:
        accessible.announce(
            self._window.chat.view, f"{self._timeline.speakers.contact}: {summary(row.content)}"
        )

    # --- the rest ---------------------------------------------------------------------------------

    def _on_active_changed(self) -> None:
        self._timeline.set_active(self._window.isActiveWindow())

    def _on_retry(self) -> None:
        tasks.spawn(self._retry(), name="connect now", owner=self)

    async def _retry(self) -> None:
        await self._bridge.call(lambda engine: engine.retry_now())

    def _show_error(self, error: UserFacing) -> None:
        self._window.toasts.show(error.code, error.title, error.advice, error=True)


async def _agreed(question: ConfirmDialog) -> bool:
    try:
        return bool(await dialogs.ask(question))
    finally:
        question.deleteLater()
