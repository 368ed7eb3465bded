"""The painted view: selection and copy, links and actions, notices, keyboard, unread line, jump button."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMenu
from pytestqt.qtbot import QtBot

from desktop.cache.rows import Edge, MessageRow, OutboxState, Unsent
from desktop.timeline.elements.bubble import MessageElement
from desktop.timeline.elements.message import UnknownElement
from desktop.timeline.elements.separators import DateDivider, GapRow, UnreadDivider
from desktop.timeline.hit import Action, Target
from desktop.timeline.notices import PATIENCE, notice_for
from desktop.timeline.overlays import JumpButton
from desktop.timeline.selection import Place, copied_text
from desktop.timeline.view import MessageView
from desktop.ui.ticks import Tick, tick_of
from shared.content import UnknownContent
from shared.delivery import DeliveryStatus
from shared.wire.inbox import Direction, SendError
from tests.desktop.timeline_kit import START, QuietFeed, message, part


def shown(ui: QApplication, feed: QuietFeed, width: int = 620, height: int = 520) -> MessageView:
    view = MessageView(feed)
    view.resize(width, height)
    view.show()
    ui.processEvents()
    return view


def element_of(view: MessageView, row: MessageRow) -> MessageElement:
    index = view.stack.index_of(row.key)
    assert index is not None
    element = view.stack.elements[index]
    assert isinstance(element, MessageElement)
    return element


def point_in(view: MessageView, row: MessageRow, target: Target, **wanted: Any) -> QPoint:
    """A point of the viewport where `hit_test` finds `target` in the message."""
    element = element_of(view, row)
    index = view.stack.index_of(row.key)
    assert index is not None
    rect = view.rect_of(index)
    for y in range(int(rect.top()), int(rect.bottom()), 3):
        for x in range(0, view.viewport().width(), 4):
            found, hit = view.hit_test(QPointF(x, y))
            matches = all(getattr(hit, name) == value for name, value in wanted.items())
            if found is element and hit.target is target and matches:
                return QPoint(x, y)
    raise AssertionError(f"no {target} there")


# --- what is shown --------------------------------------------------------------------------------


def test_days_groups_and_names(ui: QApplication) -> None:
    leila = message(0).key
    rows = [
        message(0),
        message(1),
        message(2, ours=True),
        message(3, ours=True, author_id=leila, author_name="Leila"),
        message(4, ours=True, author_id=leila, author_name="Leila"),
        message(24 * 60 + 10),
    ]
    view = shown(ui, QuietFeed(rows))
    dividers = [each for each in view.stack.elements if isinstance(each, DateDivider)]
    assert [each.text for each in dividers] == ["1 November", "2 November"] or len(dividers) == 2
    placed = [element_of(view, row).placement for row in rows]
    assert [(each.joined_above, each.joined_below) for each in placed] == [
        (False, True),
        (True, False),
        (False, False),
        (False, True),
        (True, False),
        (False, False),
    ]
    assert [each.author for each in placed] == ["", "", "", "Leila", "", ""]


def test_what_is_missing_above_is_said(ui: QApplication) -> None:
    def first_row(older: Edge) -> str:
        return shown(ui, QuietFeed([message(1)], older)).stack.elements[0].accessible_text()

    assert first_row(Edge.END) == "This is where the conversation begins"
    assert "Loading" in first_row(Edge.CACHED)
    assert "on their way" in first_row(Edge.REMOTE)


def test_an_unknown_type_is_a_bubble_that_names_it(ui: QApplication) -> None:
    row = message(1, content=UnknownContent("order", {"a": 1}))
    view = shown(ui, QuietFeed([row]))
    element = element_of(view, row)
    assert isinstance(element, UnknownElement)
    assert "order" in element.selected_text(0, element.text_length())
    assert not view.grab().isNull()


def test_a_changed_message_is_shown_anew(ui: QApplication) -> None:
    feed = QuietFeed([message(1, "before")])
    view = shown(ui, feed)
    feed.merge(message(1, "after, and much longer than it was " * 5, version=2))
    element = element_of(view, message(1))
    assert element.selected_text(0, element.text_length()).startswith("after")
    assert view.stack.height == sum(each.height for each in view.stack.elements)


def test_every_status_has_its_sign() -> None:
    assert {status: tick_of(status) for status in DeliveryStatus} == {
        DeliveryStatus.RECEIVED: Tick.NONE,
        DeliveryStatus.QUEUED: Tick.WAITING,
        DeliveryStatus.SENDING: Tick.WAITING,
        DeliveryStatus.UNCONFIRMED: Tick.UNCONFIRMED,
        DeliveryStatus.ACCEPTED: Tick.SENT,
        DeliveryStatus.SENT: Tick.SENT,
        DeliveryStatus.DELIVERED: Tick.DELIVERED,
        DeliveryStatus.READ: Tick.READ,
        DeliveryStatus.PLAYED: Tick.READ,
        DeliveryStatus.FAILED: Tick.FAILED,
        DeliveryStatus.CANCELLED: Tick.FAILED,
    }


# --- notices --------------------------------------------------------------------------------------


def unsent(state: OutboxState, **fields: Any) -> MessageRow:
    return message(
        1, ours=True, status=DeliveryStatus.QUEUED, unsent=Unsent(state=state, attempts=1, **fields)
    )


def test_a_message_on_its_way_says_nothing_for_ten_seconds_and_then_does() -> None:
    row = message(1, ours=True, status=DeliveryStatus.SENDING)
    fresh = notice_for(row, row.sent_at + timedelta(seconds=9))
    assert (fresh.words, fresh.due) == ("", row.sent_at + PATIENCE)
    late = notice_for(row, row.sent_at + PATIENCE)
    assert "confirm" in late.words
    assert late.due is None


@pytest.mark.parametrize(
    ("row", "words", "actions", "grave"),
    [
        (unsent(OutboxState.WEDGED, title="No.", advice="Do this."), "Not sent. No. Do this.", 3, True),
        (unsent(OutboxState.RETRY_WAIT, title="Busy", next_at=START), "Busy. Next try at", 3, False),
        (unsent(OutboxState.QUEUED), "Waiting to be sent.", 2, False),
        (unsent(OutboxState.SENDING), "Still waiting", 0, False),
        (message(1, ours=True, status=DeliveryStatus.UNCONFIRMED), "did not confirm", 1, False),
        (message(1, ours=True, status=DeliveryStatus.CANCELLED), "Cancelled", 0, False),
        (
            message(1, ours=True, status=DeliveryStatus.FAILED, error=SendError("Gone.", "Call.")),
            "Not sent. Gone. Call.",
            1,
            True,
        ),
        (message(1, ours=True, status=DeliveryStatus.FAILED), "WhatsApp refused it", 1, True),
    ],
)
def test_what_is_stuck_says_why_and_what_to_do(
    row: MessageRow, words: str, actions: int, grave: bool
) -> None:
    notice = notice_for(row, START + timedelta(hours=1))
    assert words in notice.words
    assert (len(notice.actions), notice.grave) == (actions, grave)


def test_a_lost_answer_is_admitted() -> None:
    row = unsent(OutboxState.WEDGED, title="No.", maybe_sent=True)
    assert "may have received it" in notice_for(row, START).words


@pytest.mark.parametrize("status", [DeliveryStatus.SENT, DeliveryStatus.DELIVERED, DeliveryStatus.READ])
def test_what_went_well_needs_no_words(status: DeliveryStatus) -> None:
    assert notice_for(message(1, ours=True, status=status), START + timedelta(days=1)).words == ""


def test_the_words_appear_by_themselves(ui: QApplication, qtbot: QtBot) -> None:
    row = message(
        1,
        ours=True,
        status=DeliveryStatus.SENDING,
        sent_at=datetime.now(UTC) - PATIENCE + timedelta(seconds=0.4),
    )
    view = shown(ui, QuietFeed([row]))
    before = view.stack.height
    assert element_of(view, row).notice.words == ""
    qtbot.waitUntil(lambda: element_of(view, row).notice.words != "", timeout=3_000)
    assert view.stack.height > before


def test_pressing_an_action_reaches_the_feed(ui: QApplication) -> None:
    row = unsent(OutboxState.WEDGED, title="No.", advice="Do this.")
    feed = QuietFeed([message(0), row])
    view = shown(ui, feed)
    for action in (Action.RETRY, Action.EDIT, Action.DELETE):
        at = point_in(view, row, Target.ACTION, action=action)
        QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert [action for _, action in feed.acted] == [Action.RETRY, Action.EDIT, Action.DELETE]


# --- links ----------------------------------------------------------------------------------------


def test_a_click_on_a_link_opens_it(ui: QApplication, qtbot: QtBot) -> None:
    row = message(1, "look at https://example.com/a_b here")
    view = shown(ui, QuietFeed([row]))
    at = point_in(view, row, Target.LINK)
    with qtbot.waitSignal(view.link_activated) as caught:
        QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert caught.args == ["https://example.com/a_b"]


def test_a_drag_over_a_link_selects_instead(ui: QApplication, qtbot: QtBot) -> None:
    row = message(1, "https://example.com/a_b")
    view = shown(ui, QuietFeed([row]))
    at = point_in(view, row, Target.LINK)
    with qtbot.assertNotEmitted(view.link_activated):
        QTest.mousePress(view.viewport(), Qt.MouseButton.LeftButton, pos=at)
        QTest.mouseMove(view.viewport(), at + QPoint(60, 0))
        QTest.mouseRelease(view.viewport(), Qt.MouseButton.LeftButton, pos=at + QPoint(60, 0))
    assert view.copy_text()


# --- selection and copy ---------------------------------------------------------------------------


def select(view: MessageView, first: MessageRow, start: int, last: MessageRow, end: int) -> str:
    view.selection.select(Place(first.key, start), Place(last.key, end))
    return copied_text(view.stack.elements, view.selection.bounds(view.stack))


def test_a_copy_within_a_message_is_the_text_alone(ui: QApplication) -> None:
    row = message(1, "*Hello* world\nagain")
    view = shown(ui, QuietFeed([row]))
    assert select(view, row, 0, row, 5) == "Hello"
    assert select(view, row, 11, row, 0) == "Hello world"
    assert select(view, row, 6, row, 17) == "world\nagain"


def test_positions_are_right_after_emoji(ui: QApplication) -> None:
    row = message(1, "👍 yes 🙂 no")
    view = shown(ui, QuietFeed([row]))
    assert select(view, row, 3, row, 6) == "yes"  # UTF-16: the thumb takes two


def test_right_to_left_text_is_copied_in_logical_order(ui: QApplication) -> None:
    row = message(1, "שלום abc עולם")
    view = shown(ui, QuietFeed([row]))
    assert select(view, row, 0, row, 8) == "שלום abc"


def test_a_copy_of_several_messages_says_who_and_when(ui: QApplication) -> None:
    rows = [message(1, "first one"), message(2, "second", ours=True), message(24 * 60 * 2, "third one")]
    view = shown(ui, QuietFeed(rows))
    lines = select(view, rows[0], 6, rows[2], 5).splitlines()
    assert [line.split("] ")[1] for line in lines] == ["Sara: one", "You: second", "Sara: third"]
    assert all(line.startswith("[") for line in lines)


def test_selecting_by_drag_across_messages(ui: QApplication) -> None:
    rows = [message(1, "first"), message(2, "second")]
    view = shown(ui, QuietFeed(rows))
    start, end = (
        point_in(view, rows[0], Target.TEXT, position=2),
        point_in(view, rows[1], Target.TEXT, position=3),
    )
    QTest.mousePress(view.viewport(), Qt.MouseButton.LeftButton, pos=start)
    QTest.mouseMove(view.viewport(), end)
    QTest.mouseRelease(view.viewport(), Qt.MouseButton.LeftButton, pos=end)
    assert [line.split(": ")[1] for line in view.copy_text().splitlines()] == ["rst", "sec"]
    QTest.keyClick(view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == view.copy_text()
    QTest.keyClick(view, Qt.Key.Key_Escape)
    assert view.selection.is_empty


def test_double_click_takes_a_word_and_a_third_the_message(ui: QApplication) -> None:
    row = message(1, "one twofold three")
    view = shown(ui, QuietFeed([row]))
    at = point_in(view, row, Target.TEXT, position=7)
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=at)
    QTest.mouseDClick(view.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert view.copy_text() == "twofold"
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=at, delay=1)
    assert view.copy_text() == "one twofold three"


def test_select_all(ui: QApplication) -> None:
    view = shown(ui, QuietFeed([message(n) for n in range(5)]))
    QTest.keyClick(view, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    assert len(view.copy_text().splitlines()) == 5


# --- keyboard and menu ----------------------------------------------------------------------------


def test_the_keyboard_walks_from_message_to_message(ui: QApplication) -> None:
    rows = [message(n) for n in range(60)]
    view = shown(ui, QuietFeed(rows))
    view.clearFocus()
    view.setFocus(Qt.FocusReason.TabFocusReason)
    assert view.focused_key == rows[-1].key
    for _ in range(30):
        QTest.keyClick(view, Qt.Key.Key_Up)
    assert view.focused_key == rows[29].key
    index = view.stack.index_of(rows[29].key)
    assert index is not None
    assert view.viewport().rect().contains(view.rect_of(index).toRect())
    QTest.keyClick(view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == "message 29"
    QTest.keyClick(view, Qt.Key.Key_End)
    assert view.is_at_end
    QTest.keyClick(view, Qt.Key.Key_Home)
    assert view.verticalScrollBar().value() == 0
    before = view.verticalScrollBar().value()
    QTest.keyClick(view, Qt.Key.Key_PageDown)
    assert view.verticalScrollBar().value() > before + 300


def test_typing_is_passed_on(ui: QApplication, qtbot: QtBot) -> None:
    view = shown(ui, QuietFeed([message(1)]))
    with qtbot.waitSignal(view.typed) as caught:
        QTest.keyClicks(view, "h")
    assert caught.args == ["h"]


def test_the_menu_opens_without_a_nested_loop(ui: QApplication) -> None:
    row = unsent(OutboxState.WEDGED, title="No.")
    feed = QuietFeed([message(0), row])
    view = shown(ui, feed)
    view.setFocus()
    view.focus_message(row.key)
    QTest.keyClick(view, Qt.Key.Key_Return)
    menu = ui.activePopupWidget()
    assert isinstance(menu, QMenu)
    words = [action.text() for action in menu.actions() if not action.isSeparator()]
    assert words == ["Copy message", "Try again", "Edit", "Delete"]
    next(action for action in menu.actions() if action.text() == "Delete").trigger()
    menu.close()
    assert feed.acted == [(row.key, Action.DELETE)]


# --- unread line, jump button, what was seen ------------------------------------------------------


def test_it_opens_at_the_unread_line(ui: QApplication) -> None:
    feed = QuietFeed([message(n) for n in range(100)])
    feed.unread_from = message(60).key
    view = shown(ui, feed)
    feed.opened.emit()
    index = view.stack.index_of("unread")
    assert index is not None
    assert isinstance(view.stack.elements[index], UnreadDivider)
    assert view.rect_of(index).top() == pytest.approx(view.viewport().height() * 0.2, abs=2)
    assert not view.is_at_end


def test_the_unread_line_stays_where_it_was_at_opening(ui: QApplication) -> None:
    feed = QuietFeed([message(n) for n in range(5)])
    feed.unread_from = message(3).key
    view = shown(ui, feed)
    feed.opened.emit()
    feed.merge(message(5))
    at = view.stack.index_of("unread")
    assert at is not None
    assert view.stack.elements[at + 1].key == message(3).key


def test_the_button_counts_what_came_and_jumps(ui: QApplication) -> None:
    feed = QuietFeed([message(n) for n in range(80)])
    view = shown(ui, feed)
    button = view.findChild(JumpButton)
    assert button is not None
    assert not button.isVisible()
    view.verticalScrollBar().setValue(200)
    assert button.isVisible()
    feed.merge(message(80), message(81), message(82, ours=True))
    assert "2 new" in button.accessibleName()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert view.is_at_end
    assert not button.isVisible()


def test_jumping_asks_for_the_end_if_it_is_not_loaded(ui: QApplication) -> None:
    feed = QuietFeed((message(n) for n in range(80)), Edge.END, Edge.CACHED)
    view = shown(ui, feed)
    view.jump_to_newest()
    assert feed.asked[-1] == "newest"


def test_only_what_was_on_screen_counts_as_seen(ui: QApplication) -> None:
    feed = QuietFeed([message(n) for n in range(80)])
    feed.unread_from = message(20).key
    view = shown(ui, feed)
    feed.seen_rows.clear()
    feed.opened.emit()
    assert feed.seen_rows
    assert message(20).position < feed.seen_rows[-1].position < message(60).position
    view.jump_to_newest()
    assert feed.seen_rows[-1] == message(79)


def test_opening_another_conversation_forgets_the_selection(ui: QApplication) -> None:
    feed = QuietFeed([message(n) for n in range(5)])
    view = shown(ui, feed)
    view.select_all()
    feed.window.replace(part([message(50)]))
    feed.opened.emit()
    assert view.selection.is_empty
    assert view.copy_text() == ""


def test_nothing_loaded_paints_nothing_and_fails_nowhere(ui: QApplication) -> None:
    view = shown(ui, QuietFeed())
    assert not any(isinstance(each, GapRow) for each in view.stack.elements)
    for key in (Qt.Key.Key_Up, Qt.Key.Key_End, Qt.Key.Key_Home, Qt.Key.Key_Return, Qt.Key.Key_PageUp):
        QTest.keyClick(view, key)
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(50, 50))
    assert not view.grab().isNull()


def test_mirrored_bubbles_change_sides(ui: QApplication) -> None:
    rows = [message(1), message(2, ours=True)]
    view = shown(ui, QuietFeed(rows))
    theirs, ours = (element_of(view, row).bubble_rect() for row in rows)
    assert theirs.left() < ours.left()
    view.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
    theirs, ours = (element_of(view, row).bubble_rect() for row in rows)
    assert theirs.left() > ours.left()
    assert rows[0].direction is Direction.INBOUND
