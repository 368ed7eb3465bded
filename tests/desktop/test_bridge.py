"""Between the engine's thread and the GUI's: nothing blocks, nothing gets lost, all of it ends."""

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from PySide6.QtCore import QObject
from PySide6.QtWidgets import QApplication, QDialog
from qasync import QEventLoop

from desktop.bridge import dialogs, tasks
from desktop.bridge.bridge import Bridge
from desktop.bridge.runtime import EngineGone
from desktop.engine.events import InboxReset, SignedIn, SignInRequired, TroubleOver
from desktop.engine.publisher import BATCH_SECONDS, Publisher
from desktop.errors import UserFacing
from tests.desktop.engine_client import World
from tests.desktop.fake_relay import EMAIL, PASSWORD

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def run(qapp: QApplication) -> Iterator[Run]:
    """Runs a coroutine in the GUI's loop, with the settings that `desktop.app` makes."""
    qapp.setQuitOnLastWindowClosed(False)  # or the loop stops under the coroutine that closed a dialog
    gc.disable()  # or the engine's thread may destroy Qt objects of this one
    loop = QEventLoop(qapp)
    asyncio.set_event_loop(loop)

    async def limited(coroutine: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(20):
            await coroutine

    yield lambda coroutine: loop.run_until_complete(limited(coroutine))
    loop.close()
    asyncio.set_event_loop(None)
    gc.collect()
    gc.enable()


class FakeEngine:
    """Starts and stops like the engine; `say` publishes from the engine's thread."""

    def __init__(self, publish: Callable[[tuple[Any, ...]], None]) -> None:
        self.publish = Publisher(publish)
        self.thread = threading.current_thread()
        self.closed = False
        self.close_seconds = 0.0
        self.started_at = time.monotonic()
        self.start_seconds = 0.0

    async def start(self) -> None:
        await asyncio.sleep(self.start_seconds)
        self.publish(SignInRequired(can_remember=True))

    async def close(self) -> None:
        await asyncio.sleep(self.close_seconds)
        self.publish.flush()
        self.closed = True

    async def answer(self) -> str:
        await asyncio.sleep(0)
        assert threading.current_thread() is self.thread
        return "42"

    async def refuse(self) -> None:
        raise UserFacing("No.", "Ask somebody else.")

    async def say(self, count: int) -> None:
        for number in range(count):
            self.publish(TroubleOver(str(number)))
            await asyncio.sleep(0)

    async def hang(self) -> None:
        await asyncio.Event().wait()


def bridge_to_fake() -> tuple[Bridge, list[FakeEngine]]:
    engines: list[FakeEngine] = []

    def make(publish: Callable[[tuple[Any, ...]], None]) -> Any:
        engines.append(FakeEngine(publish))
        return engines[0]

    return Bridge(make), engines


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_events_arrive_on_the_gui_thread_in_order(run: Run) -> None:
    bridge, _engines = bridge_to_fake()
    batches: list[tuple[Any, ...]] = []
    threads: set[threading.Thread] = set()

    def on_events(batch: tuple[Any, ...]) -> None:
        threads.add(threading.current_thread())
        batches.append(batch)

    async def scenario() -> None:
        bridge.events.connect(on_events)
        bridge.start()
        await bridge.call(lambda engine: engine.say(1_000))  # type: ignore[attr-defined]
        await until(lambda: sum(map(len, batches)) == 1_001)
        await bridge.shutdown()

    run(scenario())
    assert threads == {threading.main_thread()}
    codes = [event.code for batch in batches for event in batch if isinstance(event, TroubleOver)]
    assert codes == [str(number) for number in range(1_000)]
    assert len(batches) < 200


async def test_first_event_is_told_at_once_and_the_rest_in_batches() -> None:
    batches: list[tuple[Any, ...]] = []
    publish = Publisher(batches.append)
    publish(InboxReset())
    assert batches == [(InboxReset(),)]
    publish(TroubleOver("a"))
    publish(TroubleOver("b"), TroubleOver("c"))
    assert len(batches) == 1
    await asyncio.sleep(BATCH_SECONDS * 2)
    assert batches[1:] == [(TroubleOver("a"), TroubleOver("b"), TroubleOver("c"))]
    await asyncio.sleep(BATCH_SECONDS * 2)
    publish(TroubleOver("d"))
    assert batches[2:] == [(TroubleOver("d"),)]


def test_calls_answer_fail_and_time_out(run: Run) -> None:
    bridge, engines = bridge_to_fake()

    async def scenario() -> None:
        early = asyncio.ensure_future(bridge.call(lambda engine: engine.answer()))  # type: ignore[attr-defined]
        bridge.start()  # a call made before the engine is there waits for it
        assert await early == "42"
        with pytest.raises(UserFacing) as caught:
            await bridge.call(lambda engine: engine.refuse())  # type: ignore[attr-defined]
        assert caught.value.advice == "Ask somebody else."
        with pytest.raises(TimeoutError):
            await bridge.call(lambda engine: engine.hang(), timeout=0.05)  # type: ignore[attr-defined]
        await bridge.shutdown()

    run(scenario())
    assert engines[0].closed


def test_gui_goes_on_while_the_engine_is_busy(run: Run) -> None:
    bridge, _engines = bridge_to_fake()

    async def block() -> None:
        time.sleep(0.3)  # noqa: ASYNC251 - the point

    async def scenario() -> None:
        bridge.start()
        await bridge.call(lambda engine: engine.answer())  # type: ignore[attr-defined]
        busy = bridge.submit(lambda _engine: block())
        ticks = 0
        while not busy.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks >= 10
        await bridge.shutdown()

    run(scenario())


def test_shutdown_does_not_wait_for_ever(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    bridge, engines = bridge_to_fake()

    async def scenario() -> None:
        bridge.start()
        await bridge.call(lambda engine: engine.answer())  # type: ignore[attr-defined]
        engines[0].close_seconds = 1.0
        with caplog.at_level(logging.ERROR, "desktop.runtime"):
            assert not bridge._runtime.stop(timeout=0.1)
        assert "did not stop" in caplog.text
        await until(lambda: not bridge._runtime._thread.is_alive())
        await bridge.shutdown()  # again is harmless

    run(scenario())


@pytest.mark.parametrize("wait", [False, True], ids=["called before", "called after"])
def test_engine_that_does_not_start_is_told(run: Run, caplog: pytest.LogCaptureFixture, wait: bool) -> None:
    def make(_publish: object) -> Any:
        raise RuntimeError("no engine")

    bridge = Bridge(make)
    told: list[Any] = []

    async def scenario() -> None:
        bridge.events.connect(told.extend)
        bridge.start()
        if wait:
            await until(lambda: not bridge._runtime._thread.is_alive())
        with pytest.raises(EngineGone):
            await bridge.call(lambda engine: engine.retry_now())
        await until(lambda: bool(told))
        await bridge.shutdown()

    with caplog.at_level(logging.ERROR, "desktop.runtime"):
        run(scenario())
    assert "no engine" in caplog.text
    assert [(event.code, event.advice) for event in told] == [("engine_gone", "Start Relaydesk again.")]


def test_real_engine_behind_the_bridge(run: Run, world: World) -> None:
    world.relay.add_conversation("Ana")
    told: list[Any] = []

    def make(publish: Callable[[tuple[Any, ...]], None]) -> Any:
        from desktop.engine.engine import Engine
        from desktop.platform.paths import app_paths

        return Engine(app_paths(world.data_dir), publish, open_keyring=lambda: world.keyring)

    bridge = Bridge(make)

    async def scenario() -> None:
        bridge.events.connect(told.extend)
        bridge.start()
        await bridge.call(lambda engine: engine.sign_in(world.url, EMAIL, PASSWORD, remember=True))
        await until(lambda: InboxReset() in told)
        counts = await bridge.call(lambda engine: engine.queries.inbox_counts())
        assert counts.total == 1
        await bridge.shutdown()

    run(scenario())
    assert [event for event in told if isinstance(event, SignedIn)]


# --- tasks ----------------------------------------------------------------------------------------


def test_spawned_tasks_report_their_end(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    shown: list[UserFacing] = []

    async def fail() -> None:
        raise RuntimeError("a bug")

    async def refuse() -> None:
        raise UserFacing("The disk is full.", "Free some space.")

    async def scenario() -> None:
        tasks.show_errors_with(shown.append)
        with caplog.at_level(logging.ERROR, "desktop.tasks"):
            await tasks.spawn(fail(), name="load inbox", owner=None)
            await tasks.spawn(refuse(), name="save", owner=None)
        tasks.show_errors_with(None)

    run(scenario())
    assert [error.title for error in shown] == ["The disk is full."]
    assert "load inbox" in caplog.text
    assert "a bug" in caplog.text


def test_task_ends_with_its_owner(run: Run) -> None:
    async def scenario() -> None:
        owner, other = QObject(), QObject()
        task = tasks.spawn(asyncio.sleep(60), name="wait", owner=owner)
        finished = tasks.spawn(asyncio.sleep(0), name="short", owner=other)
        await asyncio.sleep(0.01)
        assert finished.done()
        assert not task.done()
        owner.deleteLater()
        await until(task.done)
        assert task.cancelled()
        left = tasks.spawn(asyncio.sleep(60), name="left", owner=None)
        await tasks.cancel_all()
        assert left.cancelled()

    run(scenario())


# --- dialogs --------------------------------------------------------------------------------------


def test_asking_leaves_other_tasks_running(run: Run) -> None:
    async def scenario() -> None:
        dialog = QDialog()
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = tasks.spawn(tick(), name="tick", owner=dialog)
        asking = asyncio.ensure_future(dialogs.ask(dialog))
        await until(lambda: ticks > 5)
        assert dialog.isVisible()
        dialog.accept()
        assert await asking == QDialog.DialogCode.Accepted
        after = ticks
        await until(lambda: ticks > after + 5)
        ticking.cancel()

    run(scenario())


def test_cancelled_question_closes_its_dialog(run: Run) -> None:
    async def scenario() -> None:
        dialog = QDialog()
        asking = asyncio.ensure_future(dialogs.ask(dialog))
        await until(dialog.isVisible)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert not dialog.isVisible()

    run(scenario())
