"""Puts the program together, runs it, and takes it apart in order."""

import asyncio
import gc
import logging
import sys
import threading
import time
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import qasync
from PySide6.QtCore import (
    QMessageLogContext,
    QObject,
    QSettings,
    Qt,
    QTimer,
    QtMsgType,
    qInstallMessageHandler,
)
from PySide6.QtWidgets import QApplication

from desktop.bridge import tasks
from desktop.bridge.bridge import Bridge
from desktop.engine.events import Event
from desktop.inbox.model import InboxModel
from desktop.platform.paths import AppPaths, app_paths
from desktop.platform.single_instance import SingleInstance
from desktop.shell.controller import Controller, Unattended
from desktop.shell.window import MainWindow
from desktop.timeline.model import TimelineModel
from desktop.ui.icon import application_icon
from desktop.ui.theme import Mode, theme

if TYPE_CHECKING:
    from desktop.engine.engine import Engine
    from desktop.options import Options

log = logging.getLogger("desktop")

_LOG_BYTES: Final = 2_000_000
_GARBAGE_MS: Final = 4_000
_OLD_GARBAGE_EVERY: Final = 15
_DRAFT_SECONDS: Final = 1.0


def run(options: "Options") -> int:
    """Run until the window is closed. 0; 3 if the profile is in use by another process."""
    app = QApplication(sys.argv[:1])
    app.setApplicationName("Relaydesk")
    app.setDesktopFileName("relaydesk")
    app.setQuitOnLastWindowClosed(False)
    app.setWindowIcon(application_icon())
    paths = app_paths(options.profile_dir)
    _start_logging(paths.logs)
    instance = SingleInstance(paths.data)
    if not instance.claim():
        log.warning("another Relaydesk already runs with this profile")
        return 3
    theme().install(app, Mode(options.theme))
    program = Program(app, options, paths)
    instance.started_again.connect(program.come_forward)
    try:
        return program.run()
    finally:
        instance.release()


class Program(QObject):
    """The parts and their order of life."""

    def __init__(self, app: QApplication, options: "Options", paths: AppPaths) -> None:
        super().__init__()
        self._app = app
        self._options = options
        self.bridge = Bridge(_engine_maker(paths, options.keyring))
        self.inbox = InboxModel(self.bridge)
        self.timeline = TimelineModel(self.bridge)
        settings = QSettings(str(paths.data / "window.ini"), QSettings.Format.IniFormat)
        self.window = MainWindow(self.inbox, self.timeline, settings)
        self.window.closed.connect(self._on_closed)
        self._loop = qasync.QEventLoop(app)
        self._ending = False
        unattended = None
        if options.email and options.password:
            unattended = Unattended(options.relay_url, options.email, options.password)
        self.controller = Controller(
            self.bridge,
            self.window,
            self.inbox,
            self.timeline,
            relay_url=options.relay_url,
            email=options.email,
            unattended=unattended,
        )
        self._garbage = QTimer(self, interval=_GARBAGE_MS)
        self._garbage.timeout.connect(self._collect_garbage)
        self._rounds = 0
        self._first_picture_at = 0.0

        if not paths.current_account.exists():
            # Nobody has signed in here: no need to wait for the engine to find out.
            self.window.sign_in.prefill(options.relay_url, options.email, can_remember=True, why_not="")
            self.window.show_sign_in()

    def run(self) -> int:
        _catch_everything(self._loop, self._report)
        asyncio.set_event_loop(self._loop)
        self.window.show()
        # The first picture, before the engine's imports compete for the processor.
        self._app.processEvents()
        self._first_picture_at = time.time()
        QTimer.singleShot(0, self, self._after_first_picture)
        with self._loop:
            self._loop.run_forever()
        return 0

    def come_forward(self, _argument: str = "") -> None:
        """A second start of the program: show this one."""
        self.window.setWindowState(self.window.windowState() & ~Qt.WindowState.WindowMinimized)
        self.window.raise_()
        self.window.activateWindow()

    def _after_first_picture(self) -> None:
        self.bridge.start()
        if self._options.automation:
            from desktop.automation import Automation  # noqa: PLC0415 - only where it was asked for

            self._automation = Automation(
                self.window, self.inbox, self.timeline, self._options.screenshot_dir
            )
            self._automation.start(self._first_picture_at)
        # Collections would stop the GUI at any moment, and on the engine's thread could destroy Qt objects
        # there: they happen here, when there is time.
        gc.disable()
        gc.collect()
        gc.freeze()
        self._garbage.start()

    def _collect_garbage(self) -> None:
        self._rounds += 1
        gc.collect(2 if self._rounds % _OLD_GARBAGE_EVERY == 0 else 1)

    # --- the end ----------------------------------------------------------------------------------

    def _on_closed(self) -> None:
        if not self._ending:
            self._ending = True
            tasks.spawn(self._shut_down(), name="shut down", owner=None)

    async def _shut_down(self) -> None:
        """Input has ended with the window; drafts, then the engine, then what still waits, then the loop."""
        self._garbage.stop()
        saving = self.controller.drafts_being_saved()
        if saving:
            await asyncio.wait(saving, timeout=_DRAFT_SECONDS)
        await self.bridge.shutdown()
        await tasks.cancel_all()
        self._loop.stop()

    # --- errors -----------------------------------------------------------------------------------

    def _report(self, error: BaseException) -> None:
        """A fault of the program: logged in full, said once in short."""
        log.error("unexpected error", exc_info=error)
        if not self._ending:
            self.window.toasts.show(
                f"bug {type(error).__name__}",
                "Something in Relaydesk went wrong.",
                "It goes on, but if this stays, start it anew. The log has the details.",
                error=True,
            )


def _engine_maker(paths: AppPaths, keyring: str) -> "Callable[[Callable[[tuple[Event, ...]], None]], Engine]":
    """Runs on the engine's thread, and with it the imports of the database and the network."""

    def make(deliver: "Callable[[tuple[Event, ...]], None]") -> "Engine":
        from desktop.engine.engine import Engine  # noqa: PLC0415 - see above
        from desktop.platform.keyring import KeyringUnavailable, SecretStore  # noqa: PLC0415

        if keyring == "system":
            return Engine(paths, deliver)

        def no_keyring() -> SecretStore:
            raise KeyringUnavailable("The keyring is switched off.", "The sign-in ends with the program.")

        return Engine(paths, deliver, open_keyring=no_keyring)

    return make


def _start_logging(folder: Path) -> None:
    shape = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    to_file = RotatingFileHandler(
        folder / "desktop.log", maxBytes=_LOG_BYTES, backupCount=3, encoding="utf-8"
    )
    to_terminal = logging.StreamHandler()
    to_terminal.setLevel(logging.WARNING)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in (to_file, to_terminal):
        handler.setFormatter(shape)
        root.addHandler(handler)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    qInstallMessageHandler(_log_qt)


def _log_qt(kind: QtMsgType, context: QMessageLogContext, message: str) -> None:
    level = {
        QtMsgType.QtDebugMsg: logging.DEBUG,
        QtMsgType.QtInfoMsg: logging.INFO,
        QtMsgType.QtWarningMsg: logging.WARNING,
    }.get(kind, logging.ERROR)
    if message.startswith("This plugin does not support "):
        level = logging.DEBUG  # the offscreen platform has no window manager and says so for each window
    logging.getLogger("qt").log(level, "%s (%s)", message, context.category)


def _catch_everything(loop: asyncio.AbstractEventLoop, report: Callable[[BaseException], None]) -> None:
    """One sink for what nobody expected: slots, tasks, threads."""

    def on_exception(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            loop.stop()
        else:
            report(error)

    def on_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            report(error)
        else:
            log.error("in the GUI's loop: %s", context.get("message"))

    def on_thread_error(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_value is not None:
            log.error("thread %s failed", failed.thread, exc_info=failed.exc_value)

    sys.excepthook = on_exception
    threading.excepthook = on_thread_error
    loop.set_exception_handler(on_loop_error)
