"""Every screen and state with invented people, to look at and to compare.

    python -m desktop.gallery                          a list of the screens
    python -m desktop.gallery --screen inbox --theme dark
    python -m desktop.gallery --all --out folder       a picture of each

Nothing here touches the engine: the feeds answer from lists.
"""
# ruff: noqa: E501 - invented conversations read better with one message to a line

import argparse
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from PySide6.QtCore import QSize, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from desktop.cache.rows import (
    ConversationRow,
    Edge,
    InboxCounts,
    InboxPosition,
    InboxQuery,
    MessagePosition,
    MessageRow,
    OutboxState,
    TimelineSlice,
    Unsent,
)
from desktop.engine.events import ConnectionChanged, Phase
from desktop.inbox.feed import InboxFeed, ListState
from desktop.shell.banner import OfflineBanner
from desktop.shell.shortcuts import ShortcutSheet
from desktop.shell.window import MainWindow
from desktop.signin.view import SignInView
from desktop.timeline.elements.bubble import MessageElement, Speakers
from desktop.timeline.feed import TimelineFeed
from desktop.timeline.hit import Action
from desktop.timeline.selection import Place
from desktop.timeline.window import EXTEND_ROWS, OPEN_ROWS
from desktop.ui.theme import Mode, theme
from shared.content import Content, TextContent, UnknownContent
from shared.delivery import DeliveryStatus
from shared.wire.auth import Me, TenantInfo, UserInfo
from shared.wire.inbox import Direction, LastMessage, SendError

ME: Final = UUID(int=0x11)
LEILA: Final = UUID(int=0x16)
NUMBER: Final = UUID(int=0x21)


# --- invented messages ----------------------------------------------------------------------------


class Script:
    """Writes messages one after the other, with growing ids and times."""

    def __init__(self, conversation: UUID, now: datetime) -> None:
        self.conversation = conversation
        self.now = now
        self.rows: list[MessageRow] = []

    def _add(self, direction: Direction, content: Content, ago: timedelta, **fields: object) -> "Script":
        number = len(self.rows) + 1
        at = self.now - ago
        key = UUID(int=self.conversation.int * 1_000_000 + number)
        defaults: dict[str, object] = {
            "key": key,
            "id": key,
            "conversation_id": self.conversation,
            "position": MessagePosition(
                pending="unsent" in fields, at=round(at.timestamp() * 1e6) + number, id=key
            ),
            "direction": direction,
            "content": content,
            "status": DeliveryStatus.RECEIVED if direction is Direction.INBOUND else DeliveryStatus.READ,
            "sent_at": at,
            "status_at": at + timedelta(seconds=2),
            "version": 1,
            "author_id": None if direction is Direction.INBOUND else ME,
        }
        self.rows.append(MessageRow(**{**defaults, **fields}))  # type: ignore[arg-type] # invented rows
        return self

    def they(self, text: str, **ago: float) -> "Script":
        return self._add(Direction.INBOUND, TextContent(text), timedelta(**ago))

    def they_sent(self, meta_type: str, **ago: float) -> "Script":
        return self._add(Direction.INBOUND, UnknownContent(meta_type, {}), timedelta(**ago))

    def we(self, text: str, ago: timedelta, **fields: object) -> "Script":
        return self._add(Direction.OUTBOUND, TextContent(text), ago, **fields)


def story(conversation: UUID, now: datetime) -> list[MessageRow]:
    """An everyday conversation with a little of everything."""
    return (
        Script(conversation, now)
        .they("Hi! I ordered the blue lamp last week and it still says *preparing*. Can you check order _#48213_ for me, please?", hours=27)
        .they("👋", hours=26.98)
        .we("Hello Sara! Of course, one moment.", timedelta(hours=26.9))
        .we("It left our warehouse this morning. You can follow it at https://track.example.com/p/48213 and it should be with you by Thursday.", timedelta(hours=26.87))
        .they("Perfect, thank you! 🙏", hours=26.8)
        .they("Sorry, one more question. Could it go to my office instead? The address is Kungsgatan 14, 3rd floor. There is always somebody at the desk until five, and the door code is ~4411~ 4417.", hours=2.2)
        .we("Yes, I changed it for you. The driver has the code.", timedelta(hours=2.1), author_id=LEILA, author_name="Leila Haddad", status=DeliveryStatus.READ)
        .they("You are the best ❤️", hours=2.05)
        .they_sent("order", minutes=42)
        .they("I also put two more in the basket just now", minutes=41)
        .we("I see them. Use the code `LAMP10` and the delivery is free.", timedelta(minutes=38), status=DeliveryStatus.DELIVERED)
        .we("Shall I put both orders into one parcel?", timedelta(minutes=37), status=DeliveryStatus.SENT)
        .rows
    )  # fmt: skip


def troubles(conversation: UUID, now: datetime) -> list[MessageRow]:
    """Every way in which a message can be stuck."""
    wedged = Unsent(
        state=OutboxState.WEDGED,
        attempts=1,
        code="window_closed",
        title="The reply window is closed.",
        advice="Only a template can be sent now.",
    )
    waiting = Unsent(
        state=OutboxState.RETRY_WAIT,
        attempts=3,
        next_at=now + timedelta(minutes=2),
        code="unavailable",
        title="The relay is busy.",
    )
    return (
        Script(conversation, now)
        .they("Is the shop open on Sunday?", minutes=20)
        .we("Yes, from 10 to 16.", timedelta(minutes=18), status=DeliveryStatus.FAILED, error=SendError("This number is not on WhatsApp any more.", "Check it with the customer, or call them.", 131026))
        .we("Do you need anything else?", timedelta(minutes=12), status=DeliveryStatus.UNCONFIRMED)
        .we("I am here until six.", timedelta(minutes=9), status=DeliveryStatus.SENDING)
        .we("And tomorrow from nine.", timedelta(minutes=3), status=DeliveryStatus.QUEUED, unsent=waiting)
        .we("Have a nice evening!", timedelta(minutes=2), status=DeliveryStatus.FAILED, unsent=wedged)
        .we("Written while offline", timedelta(seconds=30), status=DeliveryStatus.QUEUED, unsent=Unsent(state=OutboxState.QUEUED, attempts=0))
        .we("Just now", timedelta(seconds=1), status=DeliveryStatus.QUEUED, unsent=Unsent(state=OutboxState.QUEUED, attempts=0))
        .rows
    )  # fmt: skip


def scripts_of_the_world(conversation: UUID, now: datetime) -> list[MessageRow]:
    """Right-to-left text, emoji, CJK, long words, code."""
    return (
        Script(conversation, now)
        .they("مرحبا، هل يمكنكم تغيير عنوان التوصيل إلى شارع الملك فهد رقم 12؟ رقم الطلب #48213 وشكرا جزيلا لكم على المساعدة.", minutes=80)
        .we("بالطبع! تم تغيير العنوان ✅", timedelta(minutes=78))
        .they("שלום, מתי החבילה מגיעה? הקוד הוא ABC-123.", minutes=70)
        .they("請問週末可以送貨嗎？我週六下午在家。", minutes=60)
        .we("可以的，週六下午兩點到五點之間。", timedelta(minutes=58))
        .they("👍", minutes=50).they("🎉🎉", minutes=49).they("👩‍👩‍👧‍👦🇸🇪👍🏽", minutes=48)
        .they("Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft https://example.com/a/very/long/path/that/does/not/want/to/break?and=has&many=parameters&in=it#anchor", minutes=40)
        .we("Here is how to read the file:\n```\nimport csv\nfor row in csv.reader(open('orders.csv')):\n    print(row)\n```\nCall me if it does not work.", timedelta(minutes=30))
        .they("*Bold*, _italic_, ~gone~ and *_both_* with `code` in one line.\n\nAnd a second paragraph.", minutes=20)
        .they("ok", minutes=1)
        .rows
    )  # fmt: skip


_WORDS: Final = [
    "the",
    "a",
    "parcel",
    "order",
    "lamp",
    "today",
    "tomorrow",
    "please",
    "thank",
    "you",
    "we",
    "can",
    "will",
    "check",
    "door",
    "address",
    "office",
    "colour",
    "blue",
    "green",
    "delivery",
    "driver",
    "code",
    "invoice",
    "pay",
    "card",
    "size",
    "return",
    "week",
    "Monday",
    "Friday",
    "morning",
    "evening",
    "hello",
    "great",
    "perfect",
    "question",
]


def long_history(conversation: UUID, now: datetime, count: int) -> list[MessageRow]:
    """`count` messages of mixed length."""
    rng = random.Random(7)  # noqa: S311 - invented text
    script = Script(conversation, now)
    for index in range(count):
        text = " ".join(rng.choices(_WORDS, k=max(1, int(rng.expovariate(1 / 13))))).capitalize()
        if rng.random() < 0.1:
            text += " 🙂"
        ago = timedelta(minutes=(count - index) * 7)
        if rng.random() < 0.55:
            script.they(text, minutes=ago.total_seconds() / 60)
        else:
            script.we(text, ago)
    return script.rows


# --- invented people ------------------------------------------------------------------------------

_PEOPLE: Final = (
    ("Sara Lindqvist", "Shall I put both orders into one parcel?", True, DeliveryStatus.SENT, 37, 0, 2.0),
    ("Amir Tehrani", "Can I come by at four?", False, DeliveryStatus.RECEIVED, 4, 3, 0.07),
    ("أحمد الشريف", "شكرا جزيلا، وصل الطلب", False, DeliveryStatus.RECEIVED, 16, 1, 0.3),
    (
        "Café Zentral, Herr von Hohenberg-Wittgenstein junior",
        "We need forty chairs until the end of the week, is that possible at all?",
        False,
        DeliveryStatus.RECEIVED,
        35,
        12,
        21.5,
    ),
    ("王小明", "可以的，週六下午兩點到五點之間。", True, DeliveryStatus.READ, 58, 0, 1.0),
    ("🌻 Blumen Anna", "You are welcome 🙂", True, DeliveryStatus.READ, 120, 0, 22.8),
    ("", "Hello?", False, DeliveryStatus.RECEIVED, 180, 1, 3.0),
    ("Jonas Berg", "Is the shop open on Sunday?", True, DeliveryStatus.FAILED, 240, 0, 6.0),
    ("Maria Fernández", "Message of type “order”", False, DeliveryStatus.RECEIVED, 300, 0, 5.0),
    (
        "Olena Kovalenko",
        "The invoice is attached to the parcel.",
        True,
        DeliveryStatus.DELIVERED,
        1500,
        0,
        30.0,
    ),
    ("Peter Okafor", "Great, see you then", False, DeliveryStatus.RECEIVED, 3100, 0, 52.0),
    ("Yuki Tanaka", "ありがとうございます！", False, DeliveryStatus.RECEIVED, 7000, 0, 117.0),
    (
        "Dr. Ingrid Sørensen",
        "Do you also deliver to Norway?",
        False,
        DeliveryStatus.RECEIVED,
        26000,
        0,
        433.0,
    ),
    ("Tom", "ok", True, DeliveryStatus.READ, 600000, 0, 10000.0),
)


def people(now: datetime) -> list[ConversationRow]:
    rows = []
    for number, (name, words, ours, status, minutes, unread, inbound_hours) in enumerate(_PEOPLE, start=1):
        at = now - timedelta(minutes=minutes)
        conversation = UUID(int=0xC0 + number)
        direction = Direction.OUTBOUND if ours else Direction.INBOUND
        rows.append(
            ConversationRow(
                id=conversation,
                number_id=NUMBER,
                contact_id=UUID(int=0xA00 + number),
                name=name,
                phone=f"+46 70 174 06 {number:02}",
                username=None,
                position=InboxPosition(round(at.timestamp() * 1e6), conversation),
                activity_at=at,
                version=1,
                unread_count=unread,
                last_inbound_at=now - timedelta(hours=inbound_hours),
                last_message=LastMessage(UUID(int=number), direction, words, status, at),
                draft="Dear Ms Kovalenko, the" if name.startswith("Olena") else "",
                wedged=0,
            )
        )
    return rows


def many_people(now: datetime, count: int) -> list[ConversationRow]:
    """`count` conversations for measurements."""
    base = people(now)
    rows = []
    for number in range(count):
        of = base[number % len(base)]
        conversation = UUID(int=0xD000000 + number)
        at = now - timedelta(minutes=number)
        rows.append(
            ConversationRow(
                id=conversation, number_id=NUMBER, contact_id=conversation, name=f"{of.name} {number}", phone=of.phone,
                username=None, position=InboxPosition(round(at.timestamp() * 1e6), conversation), activity_at=at,
                version=1, unread_count=of.unread_count, last_inbound_at=at, last_message=of.last_message,
            )
        )  # fmt: skip
    return rows


# --- feeds that answer from lists -----------------------------------------------------------------


class ListInbox(InboxFeed):
    def __init__(self, rows: list[ConversationRow], state: ListState | None = None) -> None:
        super().__init__()
        self._all = sorted(rows, key=lambda row: row.position, reverse=True)
        self._fixed = state
        self.set_query(InboxQuery())

    def set_query(self, query: InboxQuery) -> None:
        self.query = query
        found = [row for row in self._all if query.search.casefold() in row.title.casefold()]
        if query.unread_only:
            found = [row for row in found if row.unread_count]
        self.rows.replace(found, complete=True)
        self.counts = InboxCounts(len(found), sum(1 for row in self._all if row.unread_count))
        empty = (
            ListState.NOTHING_MATCHES
            if query.search
            else ListState.ALL_READ
            if query.unread_only
            else ListState.EMPTY
        )
        self.state = self._fixed or (ListState.READY if found else empty)
        self.state_changed.emit()
        self.counts_changed.emit()

    def want_more(self) -> None:
        """Everything is there."""

    def read_again(self) -> None:
        self._fixed = None
        self.set_query(self.query)


class ListTimeline(TimelineFeed):
    """Pages through a list as the cache would."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[MessageRow] = []
        self.acted: list[tuple[MessageRow, Action]] = []
        self.seen_rows: list[MessageRow] = []

    def show(self, rows: list[MessageRow], contact: str, unread: int = 0) -> None:
        self.all = rows
        self.speakers = Speakers(contact, ME)
        inbound = [row for row in rows if row.direction is Direction.INBOUND]
        self.unread_from = inbound[-unread].key if unread else None
        self._show_end()

    def want_older(self) -> None:
        first = self._at(self.window.rows[0]) if self.window.rows else 0
        if first > 0:
            start = max(0, first - EXTEND_ROWS)
            self.window.extend_older(self._slice(start, first))
            self.changed.emit()

    def want_newer(self) -> None:
        last = self._at(self.window.rows[-1]) + 1 if self.window.rows else 0
        if last < len(self.all):
            self.window.extend_newer(self._slice(last, min(len(self.all), last + EXTEND_ROWS)))
            self.changed.emit()

    def want_newest(self) -> None:
        self._show_end()

    def seen(self, row: MessageRow) -> None:
        self.seen_rows.append(row)

    def act(self, row: MessageRow, action: Action) -> None:
        self.acted.append((row, action))

    def arrive(self, *rows: MessageRow) -> None:
        """New or changed messages."""
        keys = {row.key for row in rows}
        self.all = sorted(
            [row for row in self.all if row.key not in keys] + list(rows), key=lambda row: row.position
        )
        if self.window.merge(rows):
            self.changed.emit()

    def _show_end(self) -> None:
        self.window.replace(self._slice(max(0, len(self.all) - OPEN_ROWS), len(self.all)))
        self.opened.emit()

    def _at(self, row: MessageRow) -> int:
        low, high = 0, len(self.all)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.all[middle].position < row.position else (low, middle)
        return low

    def _slice(self, start: int, end: int) -> TimelineSlice:
        return TimelineSlice(
            tuple(self.all[start:end]),
            Edge.CACHED if start else Edge.END,
            Edge.CACHED if end < len(self.all) else Edge.END,
            complete=True,
        )


# --- screens --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Screen:
    build: Callable[[datetime], QWidget]
    words: str
    size: tuple[int, int] = (1180, 780)


def make_window(
    now: datetime,
    rows: list[ConversationRow] | None = None,
    state: ListState | None = None,
    messages: list[MessageRow] | None = None,
    *,
    chosen: int = 0,
    unread: int = 0,
) -> MainWindow:
    listed = people(now) if rows is None else rows
    timeline = ListTimeline()
    window = MainWindow(ListInbox(listed, state), timeline)
    window.show_me(
        Me(
            UserInfo(ME, "nils@nordlicht.example", "Nils Eriksson", "agent"),
            TenantInfo(UUID(int=1), "Nordlicht Möbel"),
            [],
        )
    )

    def choose(row: ConversationRow) -> None:
        timeline.show(story(row.id, now), row.title)
        window.show_conversation(row, row.draft)

    window.conversation_chosen.connect(choose)
    if messages is not None:
        row = listed[chosen]
        timeline.show(messages, row.title, unread)
        window.show_conversation(row, row.draft)
    return window


def _offline(now: datetime) -> QWidget:
    window = make_window(now, messages=troubles(UUID(int=0xC8), now), chosen=7)
    state = ConnectionChanged(
        phase=Phase.OFFLINE, since=now - timedelta(minutes=6), last_sync_at=now - timedelta(minutes=6), unsent=2,
        reason="the relay does not answer",
    )  # fmt: skip
    window.show_connection(state)
    window.banner.findChild(OfflineBanner)
    return window


def _sign_in(now: datetime) -> QWidget:  # noqa: ARG001 - a screen's signature
    view = SignInView()
    view.prefill("https://relay.nordlicht.example", "", can_remember=True, why_not="")
    return view


def _sign_in_error(now: datetime) -> QWidget:  # noqa: ARG001 - a screen's signature
    view = SignInView()
    view.prefill(
        "https://relay.nordlicht.example", "nils@nordlicht.example", can_remember=False,
        why_not="This computer has no keyring, so the sign-in ends with the program.",
    )  # fmt: skip
    view.password.setText("correct horse")
    view.show_error(
        "E-mail or password is wrong.", "Check both; after several tries the relay makes you wait."
    )
    return view


def _sheet(now: datetime) -> QWidget:
    window = make_window(now, messages=story(UUID(int=0xC1), now))
    window.show()
    return ShortcutSheet(window)


def _toasts(now: datetime) -> QWidget:
    window = make_window(now, messages=story(UUID(int=0xC1), now))
    window.toasts.show("sent", "Message deleted", action=("Undo", lambda: None))
    window.toasts.show(
        "full",
        "The disk is full",
        "Nothing new can be kept. Free some space; it goes on by itself.",
        error=True,
    )
    return window


def _closed_window(now: datetime) -> QWidget:
    return make_window(now, messages=story(UUID(int=0xCA), now)[:5], chosen=9)


def _reading_back(now: datetime) -> QWidget:
    """Far up in a long conversation while new messages come in; a selection, and the menu of the keyboard."""
    rows = long_history(UUID(int=0xC1), now, 400)
    timeline = ListTimeline()
    window = MainWindow(ListInbox(people(now)), timeline)
    timeline.show(rows[:-3], "Sara Lindqvist")
    window.show_conversation(
        people(now)[0], "A first line,\nand a second one that is longer\n\nand a last one."
    )
    window.resize(1180, 780)
    window.show()
    view = window.chat.view
    view.verticalScrollBar().setValue(view.verticalScrollBar().maximum() - 2_000)
    view.verticalScrollBar().setValue(view.verticalScrollBar().value() - 40)
    timeline.arrive(*rows[-3:])
    visible = [view.stack.elements[index] for index in view.visible_indices()]
    messages = [each for each in visible if isinstance(each, MessageElement)]
    first, last = messages[2], messages[4]
    view.selection.select(Place(first.key, 4), Place(last.key, last.text_length() // 2))
    view.focus_message(messages[6].row.key)
    view.setFocus()
    QTest.qWait(600)  # the chip fades in
    return window


SCREENS: Final[dict[str, Screen]] = {
    "inbox": Screen(lambda now: make_window(now, messages=story(UUID(int=0xC1), now)), "The main window"),
    "unread": Screen(lambda now: make_window(now, messages=story(UUID(int=0xC2), now), chosen=1, unread=3), "Opened with unread messages"),
    "nothing-open": Screen(make_window, "Before a conversation is chosen"),
    "world": Screen(lambda now: make_window(now, messages=scripts_of_the_world(UUID(int=0xC3), now), chosen=2), "Scripts, emoji, code", (1180, 980)),
    "troubles": Screen(lambda now: make_window(now, messages=troubles(UUID(int=0xC8), now), chosen=7), "Messages that are stuck", (1180, 900)),
    "offline": Screen(_offline, "The relay cannot be reached"),
    "closed-window": Screen(_closed_window, "The 24 hours are over"),
    "long": Screen(lambda now: make_window(now, messages=long_history(UUID(int=0xC1), now, 1000)), "A thousand messages"),
    "reading-back": Screen(_reading_back, "Far up, with a selection, while messages arrive"),
    "narrow": Screen(lambda now: make_window(now, messages=story(UUID(int=0xC1), now)), "The smallest window", (720, 520)),
    "wide": Screen(lambda now: make_window(now, messages=story(UUID(int=0xC1), now)), "A wide screen", (1900, 900)),
    "loading": Screen(lambda now: make_window(now, [], ListState.LOADING), "First start"),
    "empty": Screen(lambda now: make_window(now, []), "No conversations yet"),
    "failed": Screen(lambda now: make_window(now, [], ListState.FAILED), "The list cannot be read"),
    "sign-in": Screen(_sign_in, "Signing in", (760, 720)),
    "sign-in-error": Screen(_sign_in_error, "Signing in fails", (760, 820)),
    "shortcuts": Screen(_sheet, "The list of shortcuts", (760, 480)),
    "toasts": Screen(_toasts, "Short notes"),
}  # fmt: skip


def picture(name: str, app: QApplication, out: Path) -> None:
    """Paint one screen into a file."""
    screen = SCREENS[name]
    widget = screen.build(datetime.now(UTC))
    if name != "shortcuts":
        widget.resize(QSize(*screen.size))
    widget.show()
    for _ in range(4):
        app.processEvents()
    widget.grab().save(str(out))
    widget.close()
    widget.deleteLater()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m desktop.gallery", description="Look at every screen.")
    parser.add_argument("--screen", choices=sorted(SCREENS))
    parser.add_argument("--all", action="store_true", help="every screen")
    parser.add_argument("--theme", choices=[mode.value for mode in Mode], default="system")
    parser.add_argument("--scale", type=float, default=1.0, help="device pixels per pixel, as 1.25")
    parser.add_argument("--rtl", action="store_true", help="lay out from right to left")
    parser.add_argument(
        "--out", type=Path, help="write a PNG (with --all: a folder of them) instead of a window"
    )
    arguments = parser.parse_args(argv)
    if not arguments.screen and not arguments.all:
        print("\n".join(f"{name:16} {screen.words}" for name, screen in SCREENS.items()))  # noqa: T201 - a list was asked for
        return 0
    os.environ.setdefault("QT_SCALE_FACTOR", str(arguments.scale))
    if arguments.out:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = QApplication(sys.argv[:1])
    app.setLayoutDirection(
        Qt.LayoutDirection.RightToLeft if arguments.rtl else Qt.LayoutDirection.LeftToRight
    )
    theme().install(app, Mode(arguments.theme))
    names = list(SCREENS) if arguments.all else [arguments.screen]
    if arguments.out:
        if arguments.all:
            arguments.out.mkdir(parents=True, exist_ok=True)
        for name in names:
            picture(name, app, arguments.out / f"{name}.png" if arguments.all else arguments.out)
        return 0
    shown = [SCREENS[name].build(datetime.now(UTC)) for name in names]
    for name, widget in zip(names, shown, strict=True):
        widget.resize(QSize(*SCREENS[name].size))
        widget.show()
    return app.exec()


if __name__ == "__main__":
    sys.exit(main())
