"""The real program against a relay: window, models, bridge, engine, encrypted cache."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import qasync
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from desktop.bridge import tasks
from desktop.bridge.bridge import Bridge
from desktop.engine.engine import Engine
from desktop.engine.events import Event
from desktop.inbox.feed import ListState
from desktop.inbox.model import InboxModel
from desktop.inbox.words import row_words
from desktop.platform.paths import app_paths
from desktop.shell.controller import Controller, Unattended
from desktop.shell.window import MainWindow
from desktop.timeline.elements.bubble import MessageElement
from desktop.timeline.elements.separators import UnreadDivider
from desktop.timeline.model import TimelineModel
from desktop.ui.ticks import Tick, tick_of_row
from shared.delivery import DeliveryStatus
from tests.desktop.engine_client import World
from tests.desktop.fake_relay import EMAIL, PASSWORD, START, Fault

Run = Callable[[Callable[[], Awaitable[None]]], None]


class Desktop:
    """The parts of the program, without its process."""

    def __init__(self, world: World, *, unattended: bool) -> None:
        def make(deliver: Callable[[tuple[Event, ...]], None]) -> Engine:
            return Engine(app_paths(world.data_dir), deliver, open_keyring=lambda: world.keyring)

        self.bridge = Bridge(make)
        self.inbox = InboxModel(self.bridge)
        self.timeline = TimelineModel(self.bridge)
        self.window = MainWindow(self.inbox, self.timeline)
        self.controller = Controller(
            self.bridge,
            self.window,
            self.inbox,
            self.timeline,
            relay_url=world.url,
            unattended=Unattended(world.url, EMAIL, PASSWORD) if unattended else None,
        )

    def bubbles(self) -> list[MessageElement]:
        return self.window.chat.view.message_elements()

    def texts(self) -> list[str]:
        return [element.selected_text(0, element.text_length()) for element in self.bubbles()]

    def tick_of(self, text: str) -> Tick | None:
        return next((tick_of_row(e.row) for e in self.bubbles() if text in e.selected_text(0, 10_000)), None)

    async def open(self, name: str) -> None:
        row = next(row for row in self.inbox.rows.rows if row.title == name)
        self.window.inbox.opened.emit(row)
        await until(lambda: self.window.chat.open_id == row.id)

    async def write(self, text: str) -> None:
        editor = self.window.chat.composer.editor
        QTest.keyClicks(editor, text)
        QTest.keyClick(editor, Qt.Key.Key_Return)


async def until(condition: Callable[[], Any], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(world: World, *, unattended: bool = True) -> AsyncIterator[Desktop]:
    desktop = Desktop(world, unattended=unattended)
    desktop.window.show()
    desktop.window.activateWindow()
    desktop.bridge.start()
    try:
        yield desktop
    finally:
        desktop.window.close()
        saving = desktop.controller.drafts_being_saved()
        if saving:
            await asyncio.wait(saving, timeout=2)
        await desktop.bridge.shutdown()
        await tasks.cancel_all()
        tasks.show_errors_with(None)
        for part in (desktop.inbox, desktop.timeline, desktop.window):
            part.deleteLater()
        await asyncio.sleep(0.05)


@pytest.fixture
def run(ui: QApplication) -> Iterator[Run]:
    ui.setQuitOnLastWindowClosed(False)
    # As the program does: a collection on the engine's thread would destroy windows there.
    gc.collect()
    gc.disable()
    loop = qasync.QEventLoop(ui)
    asyncio.set_event_loop(loop)

    async def limited(test: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.timeout(60):
            await test()

    yield lambda test: loop.run_until_complete(limited(test))
    loop.close()
    asyncio.set_event_loop(None)
    gc.enable()
    gc.collect()


@pytest.fixture(autouse=True)
def a_relay_of_today(world: World) -> None:
    """The window of 24 hours is open only for what was written lately."""
    world.relay.tick((datetime.now(UTC) - START - timedelta(minutes=30)).total_seconds())


def _is_tick(desktop: Desktop, tick: Tick) -> bool:
    return desktop.tick_of("Yes") is tick


def cut_off(world: World) -> None:
    """The relay answers nothing any more, and the socket breaks."""
    world.relay.down = True
    for socket in world.relay.sockets:
        socket.close_code = 1012
        socket.wake()


def customer(world: World, name: str, *texts: str) -> UUID:
    conversation = world.relay.add_conversation(name)
    for text in texts:
        world.relay.customer_writes(conversation, text)
    return conversation


def test_from_signing_in_to_blue_ticks(world: World, run: Run) -> None:
    sara = customer(world, "Sara", "Hello", "is anyone there?")
    customer(world, "Amir")

    async def test() -> None:
        async with running(world, unattended=False) as desktop:
            window = desktop.window
            await until(lambda: window.page == "sign-in")
            assert window.sign_in.relay.text() == world.url
            window.sign_in.email.setText(EMAIL)
            QTest.keyClicks(window.sign_in.password, PASSWORD)
            QTest.keyClick(window.sign_in.password, Qt.Key.Key_Return)
            await until(lambda: window.page == "main" and desktop.inbox.rows.rowCount() == 2)
            await until(lambda: "(1)" in window.windowTitle())
            assert window.sign_in.password.text() == ""
            await desktop.open("Sara")
            await until(lambda: desktop.texts() == ["Hello", "is anyone there?"])
            assert any(isinstance(each, UnreadDivider) for each in window.chat.view.stack.elements)
            await until(lambda: "(1)" not in window.windowTitle())  # seen, so read
            await desktop.write("Yes, I am.")
            await until(lambda: len(world.relay.arrivals) == 1)
            await until(lambda: desktop.texts()[-1] == "Yes, I am." and window.chat.view.is_at_end)
            sent = world.relay.timeline(sara)[-1]
            for status, tick in (
                (DeliveryStatus.SENT, Tick.SENT),
                (DeliveryStatus.DELIVERED, Tick.DELIVERED),
                (DeliveryStatus.READ, Tick.READ),
            ):
                world.relay.status(sent.id, status)
                await until(partial(_is_tick, desktop, tick))
            world.relay.customer_writes(sara, "Great!")
            await until(lambda: desktop.texts()[-1] == "Great!")
            await until(lambda: "Great!" in row_words(desktop.inbox.rows.rows[0], datetime.now(UTC)))

    run(test)


@pytest.mark.parametrize(
    ("change", "words", "field"),
    [
        ({"password": "wrong"}, "password", "password"),
        ({"relay_url": "http://127.0.0.1:9"}, "", "relay"),
        ({"relay_url": "not an address at all"}, "", "relay"),
    ],
)
def test_why_signing_in_failed(
    world: World, run: Run, change: dict[str, str], words: str, field: str
) -> None:
    given = {"relay_url": world.url, "email": EMAIL, "password": PASSWORD, **change}

    async def test() -> None:
        async with running(world, unattended=False) as desktop:
            view = desktop.window.sign_in
            await until(lambda: desktop.window.page == "sign-in")
            view.relay.setText(given["relay_url"])
            view.email.setText(given["email"])
            view.password.setText(given["password"])
            view.button.click()
            await until(view.error_text)
            assert words in view.error_text()
            assert getattr(view, field).hasFocus()
            assert view.button.isEnabled()

    run(test)


def test_offline_it_reads_and_writes_and_sends_later(world: World, run: Run) -> None:
    customer(world, "Sara", "Hello")

    async def test() -> None:
        async with running(world) as desktop:
            await until(lambda: desktop.inbox.rows.rowCount() == 1)
            await desktop.open("Sara")
            cut_off(world)
            await desktop.write("written offline")
            await until(lambda: desktop.tick_of("written offline") is Tick.WAITING)
            await until(desktop.window.banner.isVisible, 20)
            assert "1 message waits" in desktop.window.banner.accessibleName()
            world.relay.down = False
            desktop.window.banner.retry_requested.emit()
            await until(lambda: len(world.relay.arrivals) == 1)
            await until(lambda: not desktop.window.banner.isVisible())
        async with running(world) as again:
            await until(lambda: again.inbox.rows.rowCount() == 1)
            await again.open("Sara")
            await until(lambda: again.texts() == ["Hello", "written offline"])

    run(test)
    assert len(world.relay.arrivals) == 1


def test_a_refused_message_can_be_edited(world: World, run: Run) -> None:
    customer(world, "Sara", "Hello")

    async def test() -> None:
        async with running(world) as desktop:
            await until(lambda: desktop.inbox.rows.rowCount() == 1)
            await desktop.open("Sara")
            world.relay.fail("POST", "/messages", Fault.REFUSED)
            await desktop.write("with a mistak")
            await until(lambda: desktop.tick_of("mistak") is Tick.FAILED)
            element = next(e for e in desktop.bubbles() if "mistak" in e.selected_text(0, 99))
            assert element.notice.grave
            edit = next(action for action in element.notice.actions if action.value == "Edit")
            desktop.window.chat.view.act(element.row, edit)
            await until(lambda: desktop.window.chat.composer.editor.text() == "with a mistak")
            await until(lambda: desktop.texts() == ["Hello"])

    run(test)
    assert world.relay.arrivals == []


def test_a_draft_waits_for_its_conversation(world: World, run: Run) -> None:
    customer(world, "Sara", "Hello")
    customer(world, "Amir", "Hi")

    async def test() -> None:
        async with running(world) as desktop:
            editor = desktop.window.chat.composer.editor
            await until(lambda: desktop.inbox.rows.rowCount() == 2)
            await desktop.open("Sara")
            QTest.keyClicks(editor, "half a sen")
            await desktop.open("Amir")
            assert editor.text() == ""
            await until(lambda: any(row.draft == "half a sen" for row in desktop.inbox.rows.rows))
            await desktop.open("Sara")
            assert editor.text() == "half a sen"
        async with running(world) as again:
            await until(lambda: again.inbox.rows.rowCount() == 2)
            await again.open("Sara")
            assert again.window.chat.composer.editor.text() == "half a sen"

    run(test)


def test_a_long_history_is_paged_from_the_relay(world: World, run: Run) -> None:
    sara = world.relay.add_conversation("Sara")
    for number in range(400):
        world.relay.customer_writes(sara, f"message {number}")

    async def test() -> None:
        async with running(world) as desktop:
            await until(lambda: desktop.inbox.rows.rowCount() == 1)
            await desktop.open("Sara")
            bar = desktop.window.chat.view.verticalScrollBar()
            async with asyncio.timeout(40):
                while "message 0" not in desktop.texts():
                    bar.setValue(0)
                    await asyncio.sleep(0.02)
            texts = desktop.texts()
            first = int(texts[0].split()[1])
            assert texts == [f"message {first + n}" for n in range(len(texts))]
            desktop.window.chat.view.jump_to_newest()
            await until(lambda: desktop.texts()[-1] == "message 399" and desktop.window.chat.view.is_at_end)

    run(test)


def test_search_asks_the_cache(world: World, run: Run) -> None:
    for name in ("Sara", "Sarah", "Amir"):
        customer(world, name, "Hello")

    async def test() -> None:
        async with running(world) as desktop:
            await until(lambda: desktop.inbox.rows.rowCount() == 3)
            desktop.window.inbox.search.setText("sar")
            await until(lambda: {row.title for row in desktop.inbox.rows.rows} == {"Sara", "Sarah"})
            desktop.window.inbox.search.setText("nobody")
            await until(lambda: desktop.inbox.state is ListState.NOTHING_MATCHES)
            desktop.window.inbox.search.clear()
            await until(lambda: desktop.inbox.rows.rowCount() == 3)

    run(test)


def test_a_revoked_device_goes_back_to_signing_in(world: World, run: Run) -> None:
    customer(world, "Sara", "Hello")

    async def test() -> None:
        async with running(world) as desktop:
            await until(lambda: desktop.inbox.rows.rowCount() == 1)
            await desktop.open("Sara")
            world.relay.revoke()
            await until(lambda: desktop.window.page == "sign-in", 30)
            assert "This computer was signed out from elsewhere." in desktop.window.toasts.texts()
            assert desktop.window.chat.open_id is None

    run(test)


def test_the_cache_of_another_key_is_not_touched(world: World, run: Run, tmp_path: Path) -> None:
    customer(world, "Sara", "Hello")

    async def test() -> None:
        async with running(world) as desktop:
            await until(lambda: desktop.inbox.rows.rowCount() == 1)
        for name in world.keyring.secrets:
            if "key" in name:
                world.keyring.secrets[name] = "00" * 32
        async with running(world, unattended=False) as again:
            await until(lambda: again.window.page == "trouble")
            assert again.window.trouble.title.text()
            assert again.window.trouble.button.text() == "Load everything again"

    run(test)
    assert world.files("*.db*")
