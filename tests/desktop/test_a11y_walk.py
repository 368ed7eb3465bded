"""Everything that can be used has a name and a role, is reached by Tab, and is said to a screen reader."""

import gc
from datetime import UTC, datetime
from uuid import UUID

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QAccessibleInterface
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from desktop.gallery import SCREENS, ListTimeline, make_window, story, troubles
from desktop.timeline.view import MessageView
from tests.desktop.timeline_kit import QuietFeed, message

NOW = datetime.now(UTC)


def interface(widget: QWidget) -> QAccessibleInterface:
    found = QAccessible.queryAccessibleInterface(widget)
    assert found is not None
    return found


def focusable(window: QWidget) -> list[QWidget]:
    return [
        widget
        for widget in window.findChildren(QWidget)
        if widget.isVisible()
        and widget.isEnabled()
        and widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        and not widget.focusProxy()
    ]


@pytest.mark.parametrize("name", SCREENS)
def test_every_screen_can_be_used_without_eyes_or_mouse(ui: QApplication, name: str) -> None:
    screen = SCREENS[name]
    window = screen.build(NOW)
    window.resize(*screen.size)
    window.show()
    window.activateWindow()
    ui.processEvents()
    widgets = focusable(window)
    assert widgets
    for widget in widgets:
        seen = interface(widget)
        assert seen.text(QAccessible.Text.Name).strip(), f"{widget} has no name"
        assert seen.role() not in {QAccessible.Role.NoRole, QAccessible.Role.Client}, f"{widget} has no role"
    reached = set()
    widgets[0].setFocus()
    for _ in range(len(widgets) * 3):
        current = ui.focusWidget()
        if current is None:
            break
        reached.add(current)
        QTest.keyClick(current, Qt.Key.Key_Tab)
    missed = [widget for widget in widgets if widget not in reached and not _is_other_choice(widget)]
    assert not missed, f"Tab does not reach {missed}"


def _is_other_choice(widget: QWidget) -> bool:
    """Of choices that exclude each other Tab reaches the chosen one; arrows go on from there."""
    return bool(getattr(widget, "autoExclusive", lambda: False)()) and not widget.isChecked()  # type: ignore[attr-defined]


def test_the_messages_are_a_list_of_sentences(ui: QApplication) -> None:
    window = make_window(NOW, messages=story(UUID(int=0xC1), NOW))
    window.show()
    ui.processEvents()
    messages = interface(window.chat.view)
    assert messages.role() is QAccessible.Role.List
    names = [messages.child(index).text(QAccessible.Text.Name) for index in range(messages.childCount())]
    assert names[0] == "This is where the conversation begins"
    assert any(name.startswith("Sara Lindqvist, ") and name.endswith(", 👋") for name in names)
    assert any(name.startswith("You, ") and name.endswith(", read") for name in names)
    assert any(name.startswith("Leila Haddad, ") for name in names)
    assert {messages.child(index).role() for index in range(messages.childCount())} == {
        QAccessible.Role.ListItem
    }


def test_what_is_stuck_is_said(ui: QApplication) -> None:
    feed = ListTimeline()
    view = MessageView(feed)
    feed.show(troubles(message(1).key, NOW), "Jonas")
    messages = interface(view)
    names = [messages.child(index).text(QAccessible.Text.Name) for index in range(messages.childCount())]
    assert any("not sent, Not sent. The reply window is closed." in name for name in names)


def test_items_live_as_long_as_their_rows(ui: QApplication) -> None:
    """Qt holds bare pointers: collected items would crash a screen reader's next question."""
    feed = QuietFeed([message(n) for n in range(200)])
    view = MessageView(feed)
    view.show()
    messages = interface(view)
    count = messages.childCount()
    for index in range(count):
        messages.child(index)
    gc.collect()
    assert [messages.child(i).isValid() for i in range(count)] == [True] * count
    gone = messages.child(count - 1)
    feed.merge(removed=[message(199).key])
    feed.opened.emit()
    assert messages.childCount() == count - 1
    assert messages.indexOfChild(messages.child(5)) == 5
    del gone


def test_places_and_focus(ui: QApplication) -> None:
    view = MessageView(QuietFeed([message(n) for n in range(5)]))
    view.resize(500, 500)
    view.show()
    view.activateWindow()
    view.setFocus()
    ui.processEvents()
    messages = interface(view)
    item = messages.child(3)
    centre = item.rect().center()
    found = messages.childAt(centre.x(), centre.y())
    assert found is not None
    assert found.text(QAccessible.Text.Name) == item.text(QAccessible.Text.Name)
    assert item.parent().role() is QAccessible.Role.List
    view.focus_message(message(2).key)
    focused = messages.focusChild()
    assert focused is not None
    assert "message 2" in focused.text(QAccessible.Text.Name)
    assert focused.state().focused
    assert messages.child(99) is None
    assert messages.childAt(-500, -500) is None


def test_offscreen_rows_are_marked(ui: QApplication) -> None:
    view = MessageView(QuietFeed([message(n) for n in range(100)]))
    view.resize(500, 400)
    view.show()
    messages = interface(view)
    assert messages.child(2).state().offscreen
    assert not messages.child(messages.childCount() - 1).state().offscreen


def test_rows_of_the_inbox_are_sentences(ui: QApplication) -> None:
    window = make_window(NOW)
    window.show()
    conversations = interface(window.inbox.list)
    assert conversations.role() is QAccessible.Role.List
    assert (
        conversations.child(0)
        .text(QAccessible.Text.Name)
        .startswith("Amir Tehrani, 3 unread, Can I come by at four?")
    )
