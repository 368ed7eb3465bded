"""Driving the real program from outside: JSON lines in, JSON lines out. Used by demonstrations and tests.

A command is an object with `do` and, if an answer is to be matched, `id`. Answers carry the same `id` and
`ok`; a failed one has `error`. Keys are sent as key events to the widget that has the focus.

    {"id": 1, "do": "wait", "for": "page", "page": "main"}         page: main, sign-in, trouble
    {"id": 2, "do": "wait", "for": "row", "text": "Sara"}           a row of the inbox
    {"id": 3, "do": "open", "text": "Sara"}                         open it
    {"id": 4, "do": "wait", "for": "bubble", "text": "Hello", "tick": "read", "timeout": 10}
    {"id": 5, "do": "type", "text": "Good morning"}
    {"id": 6, "do": "press", "key": "Return"}
    {"id": 7, "do": "bubbles"}                                      what is on screen
    {"id": 8, "do": "screenshot", "path": "inbox.png"}
    {"id": 9, "do": "theme", "mode": "dark"}
    {"id": 10, "do": "state"}
    {"id": 11, "do": "quit"}

Without being asked it reports the first picture of the window and of the inbox with rows in it, and each
bubble when it was first painted, and again when its tick has changed:

    {"event": "window", "at": 1767000000.123}
    {"event": "inbox", "at": 1767000000.456}
    {"event": "painted", "text": "Hello", "tick": "", "outbound": false, "key": "…", "at": 1767000000.789}

`at` is the wall clock, in seconds, at the end of the frame.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from PySide6.QtCore import QEvent, QKeyCombination, QObject, QTimer, Signal
from PySide6.QtGui import QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from desktop.inbox.model import InboxModel
from desktop.shell.window import MainWindow
from desktop.timeline.elements.bubble import MessageElement
from desktop.timeline.model import TimelineModel
from desktop.ui.theme import Mode, theme
from desktop.ui.ticks import tick_of_row

_LOOK_MS: Final = 25
_TIMEOUT_SECONDS: Final = 10.0

Command = dict[str, Any]


class _Waiting(NamedTuple):
    command: Command
    look: Callable[[], dict[str, Any] | None]
    until: float


class Automation(QObject):
    """Answers commands one by one; a `wait` does not hold up the ones after it."""

    _received = Signal(str)

    def __init__(
        self, window: MainWindow, inbox: InboxModel, timeline: TimelineModel, screenshots: Path | None
    ) -> None:
        super().__init__(window)
        self._window = window
        self._inbox = inbox
        self._timeline = timeline
        self._screenshots = screenshots
        self._waiting: list[_Waiting] = []
        self._reported: dict[object, str] = {}
        self._inbox_reported = False
        self._received.connect(self._on_line)
        window.inbox.list.viewport().installEventFilter(self)
        window.chat.view.painted.connect(self._on_painted)
        self._clock = QTimer(self, interval=_LOOK_MS)
        self._clock.timeout.connect(self._look)

    def start(self, first_picture_at: float) -> None:
        """Begin to read standard input. Its end closes the program."""
        self._write({"event": "window", "at": first_picture_at})
        threading.Thread(target=self._read, name="automation", daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            if line.strip():
                self._received.emit(line)
        self._received.emit('{"do": "quit"}')

    # --- commands ---------------------------------------------------------------------------------

    def _on_line(self, line: str) -> None:
        command: Command = {}
        try:
            command = json.loads(line)
            handler = getattr(self, f"_do_{command['do'].replace('-', '_')}")
            answer = handler(command)
        except Exception as error:  # noqa: BLE001 - whoever drives the program is told, whatever it was
            self._answer(command, {"ok": False, "error": f"{type(error).__name__}: {error}"})
            return
        if answer is not None:
            self._answer(command, {"ok": True, **answer})

    def _do_wait(self, command: Command) -> None:
        looks = {
            "page": self._find_page,
            "row": self._find_row,
            "bubble": self._find_bubble,
            "banner": self._find_banner,
        }
        look = looks[command["for"]]
        until = time.monotonic() + float(command.get("timeout", _TIMEOUT_SECONDS))
        self._waiting.append(_Waiting(command, lambda: look(command), until))
        self._clock.start()
        self._look()

    def _do_open(self, command: Command) -> dict[str, Any]:
        rows = self._inbox.rows.rows
        at = next(index for index, row in enumerate(rows) if command["text"] in row.title)
        self._window.inbox.list.make_current(at)
        self._window.inbox.list.setFocus()
        self._press_key("Return")
        return {"title": rows[at].title}

    def _do_type(self, command: Command) -> dict[str, Any]:
        for char in command["text"]:
            if char.isascii():
                QTest.keyClicks(self._focus(), char)
            else:
                # Beyond ASCII there is no key: as an input method would commit it.
                self._window.chat.composer.type_text(char)
        return {}

    def _do_press(self, command: Command) -> dict[str, Any]:
        self._press_key(command["key"])
        return {}

    def _do_bubbles(self, _command: Command) -> dict[str, Any]:
        return {"bubbles": [self._describe(element) for element in self._visible()]}

    def _do_rows(self, _command: Command) -> dict[str, Any]:
        return {"rows": [self._describe_row(index) for index in range(min(50, self._inbox.rows.rowCount()))]}

    def _do_screenshot(self, command: Command) -> dict[str, Any]:
        path = Path(command["path"])
        if self._screenshots is not None and not path.is_absolute():
            path = self._screenshots / path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self._window.grab().save(str(path)):
            raise OSError(f"cannot write {path}")
        return {"path": str(path)}

    def _do_resize(self, command: Command) -> dict[str, Any]:
        self._window.resize(int(command["width"]), int(command["height"]))
        return {}

    def _do_theme(self, command: Command) -> dict[str, Any]:
        theme().set_mode(Mode(command["mode"]))
        return {}

    def _do_state(self, _command: Command) -> dict[str, Any]:
        composer = self._window.chat.composer
        return {
            "page": self._window.page,
            "title": self._window.windowTitle(),
            "rows": self._inbox.rows.rowCount(),
            "unread": self._inbox.counts.unread,
            "composer": composer.editor.text(),
            "can_write": composer.can_write,
            "banner": self._window.banner.accessibleName() if self._window.banner.isVisible() else "",
            "toasts": self._window.toasts.texts(),
            "sign_in_error": self._window.sign_in.error_text(),
        }

    def _do_quit(self, _command: Command) -> dict[str, Any]:
        QTimer.singleShot(0, self._window, self._window.close)
        return {}

    # --- looking ----------------------------------------------------------------------------------

    def _look(self) -> None:
        for waiting in list(self._waiting):
            found = waiting.look()
            if found is not None:
                self._waiting.remove(waiting)
                self._answer(waiting.command, {"ok": True, **found})
            elif time.monotonic() > waiting.until:
                self._waiting.remove(waiting)
                self._answer(waiting.command, {"ok": False, "error": "it did not appear in time"})
        if not self._waiting:
            self._clock.stop()

    def _find_page(self, command: Command) -> dict[str, Any] | None:
        return {} if self._window.page == command["page"] else None

    def _find_row(self, command: Command) -> dict[str, Any] | None:
        for index, row in enumerate(self._inbox.rows.rows):
            last = row.last_message.summary if row.last_message else ""
            if command["text"] in row.title or command["text"] in last:
                return self._describe_row(index)
        return None

    def _find_bubble(self, command: Command) -> dict[str, Any] | None:
        """Only what has been painted counts."""
        for element in self._visible():
            described = self._describe(element)
            painted = self._reported.get(element.key) == described["tick"]
            if (
                painted
                and command["text"] in described["text"]
                and command.get("tick", described["tick"]) == described["tick"]
            ):
                return described
        return None

    def _find_banner(self, command: Command) -> dict[str, Any] | None:
        shown = self._window.banner.isVisible()
        return {"text": self._window.banner.accessibleName()} if shown == command.get("shown", True) else None

    def _visible(self) -> list[MessageElement]:
        view = self._window.chat.view
        if not view.isVisible():
            return []
        elements = (view.stack.elements[index] for index in view.visible_indices())
        return [element for element in elements if isinstance(element, MessageElement)]

    def _describe(self, element: MessageElement) -> dict[str, Any]:
        return {
            "text": element.selected_text(0, element.text_length()),
            "tick": tick_of_row(element.row).name.lower(),
            "outbound": element.is_outbound,
            "notice": element.notice.words,
            "key": str(element.key),
        }

    def _describe_row(self, index: int) -> dict[str, Any]:
        row = self._inbox.rows.rows[index]
        return {
            "title": row.title,
            "summary": row.last_message.summary if row.last_message else "",
            "unread": row.unread_count,
            "conversation": str(row.id),
        }

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() is QEvent.Type.Paint and not self._inbox_reported and self._inbox.rows.rowCount():
            self._inbox_reported = True
            QTimer.singleShot(0, self, lambda: self._write({"event": "inbox", "at": time.time()}))
        return super().eventFilter(watched, event)

    def _on_painted(self) -> None:
        now = time.time()
        for element in self._visible():
            tick = tick_of_row(element.row).name.lower()
            if self._reported.get(element.key) != tick:
                self._reported[element.key] = tick
                self._write({"event": "painted", "at": now, **self._describe(element)})
        if self._waiting:
            QTimer.singleShot(0, self, self._look)

    # --- input and output -------------------------------------------------------------------------

    def _press_key(self, name: str) -> None:
        keys: QKeyCombination = QKeySequence(name)[0]  # type: ignore[index] # the stubs lack it
        QTest.keyClick(self._focus(), keys.key(), keys.keyboardModifiers())

    def _focus(self) -> QWidget:
        # A window that is not the active one, or has no window manager, still knows its own.
        within = cast("QWidget | None", self._window.focusWidget())
        return QApplication.focusWidget() or within or self._window

    def _answer(self, command: Command, answer: dict[str, Any]) -> None:
        self._write({"id": command.get("id"), **answer, "at": time.time()})

    def _write(self, line: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        sys.stdout.flush()
