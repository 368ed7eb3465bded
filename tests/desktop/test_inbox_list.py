"""The inbox: its item model against a plain list, and its column."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QAbstractItemModel, QPersistentModelIndex, Qt
from PySide6.QtTest import QAbstractItemModelTester, QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from desktop.cache.rows import ConversationRow, InboxPosition, InboxQuery
from desktop.gallery import ListInbox, many_people, people
from desktop.inbox.feed import ListState
from desktop.inbox.list_model import ROW, InboxListModel
from desktop.inbox.panel import InboxPanel
from desktop.inbox.words import row_words, tick, window_left
from desktop.ui.ticks import Tick
from shared.delivery import DeliveryStatus
from shared.wire.inbox import Direction, LastMessage

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def conversation(number: int, at: int = 0, **fields: object) -> ConversationRow:
    moment = NOW + timedelta(minutes=at)
    ids = UUID(int=500 + number)
    defaults: dict[str, object] = {
        "id": ids,
        "number_id": UUID(int=1),
        "contact_id": ids,
        "name": f"Person {number}",
        "phone": "+49301",
        "username": None,
        "position": InboxPosition(at, ids),
        "activity_at": moment,
        "version": 1,
        "unread_count": 0,
        "last_inbound_at": moment,
        "last_message": None,
    }
    return ConversationRow(**{**defaults, **fields})  # type: ignore[arg-type] # invented rows


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.tuples(st.integers(0, 15), st.integers(0, 40)), max_size=5)),
        st.tuples(
            st.just("many"),
            st.lists(st.tuples(st.integers(0, 15), st.integers(0, 40)), min_size=41, max_size=45),
        ),
        st.tuples(st.just("remove"), st.lists(st.tuples(st.integers(0, 15), st.just(0)), max_size=3)),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS)
def test_the_model_equals_a_sorted_list(
    steps: list[tuple[str, list[tuple[int, int]]]], qapp: QApplication
) -> None:
    """Qt's own tester watches that each signal tells the truth; a held row is followed wherever it moves."""
    model = InboxListModel()
    tester = QAbstractItemModelTester(model, QAbstractItemModelTester.FailureReportingMode.Warning)
    expected = {number: conversation(number, number) for number in range(5)}
    model.replace(sorted(expected.values(), key=lambda row: row.position, reverse=True), complete=True)
    held = QPersistentModelIndex(model.index(2))
    held_id = held.data(ROW).id
    for step, changes in steps:
        if step == "remove":
            model.merge([], [conversation(number).id for number, _ in changes])
            for number, _ in changes:
                expected.pop(number, None)
        else:
            rows = [conversation(number, at) for number, at in changes]
            model.merge(rows)
            expected.update({number: conversation(number, at) for number, at in changes})
        wanted = sorted(expected.values(), key=lambda row: row.position, reverse=True)
        assert model.rows == wanted
        assert [model.index(i).data(ROW) for i in range(model.rowCount())] == wanted
        assert all(model.index_of(row.id) == i for i, row in enumerate(wanted))
        if held.isValid():
            assert held.data(ROW).id == held_id
        else:
            held_id = UUID(int=0)
    assert isinstance(tester.model(), QAbstractItemModel)


def test_rows_below_the_loaded_part_are_left_to_paging(qapp: QApplication) -> None:
    model = InboxListModel()
    model.replace([conversation(1, 20), conversation(2, 10)], complete=False)
    model.merge([conversation(3, 5)])
    assert model.rowCount() == 2
    model.merge([conversation(2, 4)])  # sank below the end: paging brings it back
    assert [row.name for row in model.rows] == ["Person 1"]
    model.extend([conversation(3, 5), conversation(2, 4)], complete=True)
    assert [row.name for row in model.rows] == ["Person 1", "Person 3", "Person 2"]


def test_a_page_does_not_repeat_what_came_by_an_event(qapp: QApplication) -> None:
    model = InboxListModel()
    model.replace([conversation(1, 20), conversation(2, 10)], complete=False)
    model.merge([conversation(3, 30)])
    model.extend([conversation(3, 5), conversation(4, 4)], complete=True)
    assert [row.name for row in model.rows] == ["Person 3", "Person 1", "Person 2", "Person 4"]


def last(direction: Direction, status: DeliveryStatus) -> LastMessage:
    return LastMessage(UUID(int=1), direction, "words", status, NOW)


@pytest.mark.parametrize(
    ("row", "sign"),
    [
        (conversation(1), Tick.NONE),
        (conversation(1, last_message=last(Direction.INBOUND, DeliveryStatus.RECEIVED)), Tick.NONE),
        (conversation(1, last_message=last(Direction.OUTBOUND, DeliveryStatus.READ)), Tick.READ),
        (conversation(1, last_message=last(Direction.OUTBOUND, DeliveryStatus.READ), unsent=1), Tick.WAITING),
        (conversation(1, unsent=2, wedged=1), Tick.FAILED),
    ],
)
def test_the_sign_before_the_summary(row: ConversationRow, sign: Tick) -> None:
    assert tick(row) is sign


def test_a_row_read_aloud() -> None:
    row = conversation(
        1,
        unread_count=3,
        last_inbound_at=NOW - timedelta(hours=22),
        last_message=last(Direction.OUTBOUND, DeliveryStatus.READ),
    )
    assert row_words(row, NOW).startswith("Person 1, 3 unread, you: words, read, ")
    assert row_words(row, NOW).endswith("reply window closes in 2 h")
    assert "draft: hello" in row_words(conversation(1, draft="hello"), NOW)
    assert row_words(conversation(1, last_inbound_at=None), NOW).endswith("reply window closed")
    assert window_left(conversation(1, last_inbound_at=None), NOW) is None


# --- the column -----------------------------------------------------------------------------------


def shown(ui: QApplication, feed: ListInbox) -> InboxPanel:
    panel = InboxPanel(feed)
    panel.resize(360, 640)
    panel.show()
    ui.processEvents()
    return panel


def test_search_and_filters(ui: QApplication, qtbot: QtBot) -> None:
    feed = ListInbox(people(NOW))
    panel = shown(ui, feed)
    QTest.keyClicks(panel.search, "sara")
    qtbot.waitUntil(lambda: feed.query == InboxQuery(search="sara"))
    assert feed.rows.rowCount() == 1
    QTest.keyClick(panel.search, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: not feed.query.search)
    panel.unread_filter.click()
    assert feed.query.unread_only
    assert all(row.unread_count for row in feed.rows.rows)
    assert panel.unread_filter.text() == "Unread 4"


def test_the_search_leads_into_the_list_by_keys(ui: QApplication, qtbot: QtBot) -> None:
    feed = ListInbox(people(NOW))
    panel = shown(ui, feed)
    panel.focus_search()
    QTest.keyClicks(panel.search, "a")
    qtbot.waitUntil(lambda: feed.query.search == "a")
    with qtbot.waitSignal(panel.opened) as caught:
        QTest.keyClick(panel.search, Qt.Key.Key_Down)
        QTest.keyClick(panel.list, Qt.Key.Key_Down)
        QTest.keyClick(panel.list, Qt.Key.Key_Return)
    assert caught.args == [feed.rows.rows[1]]


def test_a_click_opens(ui: QApplication, qtbot: QtBot) -> None:
    feed = ListInbox(people(NOW))
    panel = shown(ui, feed)
    middle = panel.list.visualRect(feed.rows.index(2)).center()
    with qtbot.waitSignal(panel.opened) as caught:
        QTest.mouseClick(panel.list.viewport(), Qt.MouseButton.LeftButton, pos=middle)
    assert caught.args == [feed.rows.rows[2]]


def test_stepping_goes_through_the_list_and_stops_at_its_ends(ui: QApplication) -> None:
    feed = ListInbox(people(NOW)[:3])
    panel = shown(ui, feed)
    opened: list[ConversationRow] = []
    panel.opened.connect(opened.append)
    for step in (1, 1, 1, 1, -1):
        panel.step(step)
    rows = feed.rows.rows
    assert opened == [rows[0], rows[1], rows[2], rows[1]]


@pytest.mark.parametrize("state", list(ListState))
def test_every_state_says_what_it_is(ui: QApplication, state: ListState) -> None:
    feed = ListInbox([] if state is not ListState.READY else people(NOW), state)
    feed.failure = "The disk is full."
    panel = shown(ui, feed)
    assert panel.list.isVisible() == (state is ListState.READY)
    assert not panel.grab().isNull()


def test_a_failed_list_is_read_again_on_demand(ui: QApplication) -> None:
    feed = ListInbox(people(NOW), ListState.FAILED)
    panel = shown(ui, feed)
    panel.empty.button.click()
    assert feed.state is ListState.READY
    assert panel.list.isVisible()


def test_the_open_conversation_stays_marked_when_it_moves(ui: QApplication) -> None:
    feed = ListInbox([conversation(n, n) for n in range(5)])
    panel = shown(ui, feed)
    panel.select(conversation(1).id)
    feed.rows.merge([conversation(1, 99)])
    assert panel.list.currentIndex().row() == 0
    assert panel.list.selectionModel().selectedIndexes()[0].data(ROW).id == conversation(1).id


def test_more_is_asked_for_near_the_end_of_what_is_loaded(ui: QApplication) -> None:
    asked = []

    class Feed(ListInbox):
        def want_more(self) -> None:
            asked.append(self.rows.rowCount())

    feed = Feed(many_people(NOW, 300))
    panel = shown(ui, feed)
    asked.clear()
    panel.list.verticalScrollBar().setValue(10)
    assert asked == []
    panel.list.verticalScrollBar().setValue(panel.list.verticalScrollBar().maximum() - 600)
    assert asked == [300]
