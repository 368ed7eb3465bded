"""The main window: keys, banner, title, toasts, the memory of its place."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PySide6.QtCore import QSettings, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from desktop.cache.rows import ConversationRow
from desktop.engine.events import ConnectionChanged, Phase
from desktop.gallery import ListInbox, ListTimeline, make_window, people, story
from desktop.shell import banner as banner_module
from desktop.shell.shortcuts import ShortcutSheet
from desktop.shell.window import MainWindow
from desktop.ui.widgets import Label

ALT, CTRL, SHIFT = (
    Qt.KeyboardModifier.AltModifier,
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.ShiftModifier,
)


@pytest.fixture
def window(ui: QApplication) -> MainWindow:
    made = make_window(datetime.now(UTC))
    made.show()
    made.activateWindow()
    ui.processEvents()
    return made


def press(
    window: MainWindow, key: Qt.Key, modifiers: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier
) -> None:
    QTest.keyClick(QApplication.focusWidget() or window, key, modifiers)


def test_a_whole_turn_without_the_mouse(window: MainWindow, qtbot: QtBot, ui: QApplication) -> None:
    """Find a customer, read, write, go on to the next one."""
    sent: list[str] = []
    window.chat.composer.submitted.connect(sent.append)
    press(window, Qt.Key.Key_K, CTRL)
    assert ui.focusWidget() is window.inbox.search
    QTest.keyClicks(window.inbox.search, "amir")
    qtbot.waitUntil(lambda: window.inbox.list.model().rowCount() == 1)
    press(window, Qt.Key.Key_Return)
    assert window.chat.open_id == people(datetime.now(UTC))[1].id
    assert ui.focusWidget() is window.chat.composer.editor
    QTest.keyClicks(window.chat.composer.editor, "Hello Amir")
    press(window, Qt.Key.Key_Return)
    assert sent == ["Hello Amir"]
    press(window, Qt.Key.Key_Escape)
    assert ui.focusWidget() is window.chat.view
    assert window.chat.view.focused_key is not None
    press(window, Qt.Key.Key_Up)
    QTest.keyClicks(window.chat.view, "z")
    assert ui.focusWidget() is window.chat.composer.editor
    assert window.chat.composer.editor.text() == "z"


def test_alt_arrows_go_from_conversation_to_conversation(window: MainWindow) -> None:
    rows: list[ConversationRow] = window.inbox.list.model().rows  # type: ignore[attr-defined]
    press(window, Qt.Key.Key_Down, ALT)
    press(window, Qt.Key.Key_Down, ALT)
    assert window.chat.open_id == rows[1].id
    press(window, Qt.Key.Key_Up, ALT)
    assert window.chat.open_id == rows[0].id


def test_f6_goes_round_all_parts(window: MainWindow, ui: QApplication) -> None:
    press(window, Qt.Key.Key_Down, ALT)
    parts = [window.rail.first_button(), window.inbox.search, window.inbox.list, window.chat.view]
    assert ui.focusWidget() is window.chat.composer.editor
    for part in (*parts, window.chat.composer.editor):
        press(window, Qt.Key.Key_F6)
        assert ui.focusWidget() is part
    press(window, Qt.Key.Key_F6, SHIFT)
    assert ui.focusWidget() is window.chat.view


def test_zoom_of_the_messages(window: MainWindow) -> None:
    press(window, Qt.Key.Key_Down, ALT)
    height = window.chat.view.stack.height
    press(window, Qt.Key.Key_Equal, CTRL)
    assert window.chat.view.zoom == 1.1
    assert window.chat.view.stack.height > height
    for _ in range(20):
        press(window, Qt.Key.Key_Minus, CTRL)
    assert window.chat.view.zoom == 0.8
    press(window, Qt.Key.Key_0, CTRL)
    assert window.chat.view.stack.height == height


def test_newest_message(window: MainWindow) -> None:
    press(window, Qt.Key.Key_Down, ALT)
    window.chat.view.verticalScrollBar().setValue(0)
    press(window, Qt.Key.Key_J, CTRL)
    assert window.chat.view.is_at_end


def test_the_list_of_shortcuts_names_every_one(window: MainWindow, ui: QApplication) -> None:
    press(window, Qt.Key.Key_Slash, CTRL)
    sheet = next(
        each for each in ui.topLevelWidgets() if isinstance(each, ShortcutSheet) and each.isVisible()
    )
    texts = {label.text() for label in sheet.findChildren(Label)}
    assert {
        "Ctrl+K",
        "Alt+Up",
        "Alt+Down",
        "F6",
        "Ctrl+J",
        "Ctrl++",
        "Ctrl+/",
        "Ctrl+Q",
        "Shift+Enter",
    } <= texts
    sheet.accept()


def test_quit_by_key(window: MainWindow, qtbot: QtBot) -> None:
    with qtbot.waitSignal(window.closed):
        press(window, Qt.Key.Key_Q, CTRL)


def test_unread_messages_in_the_title(window: MainWindow) -> None:
    window.show_unread(0)
    assert window.windowTitle() == "Nordlicht Möbel – Relaydesk"
    window.show_unread(4)
    assert window.windowTitle() == "(4) Nordlicht Möbel – Relaydesk"


# --- the banner -----------------------------------------------------------------------------------


def offline(seconds_ago: float = 0, **fields: object) -> ConnectionChanged:
    now = datetime.now(UTC)
    return ConnectionChanged(
        phase=Phase.OFFLINE,
        since=now - timedelta(seconds=seconds_ago),
        last_sync_at=now - timedelta(minutes=3),
        **fields,  # type: ignore[arg-type] # as given
    )


ONLINE = ConnectionChanged(phase=Phase.ONLINE, since=datetime.now(UTC))


def test_the_banner_waits_before_it_says_anything(
    window: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banner_module, "PATIENCE_MS", 300)
    window.show_connection(offline())
    assert not window.banner.isVisible()
    qtbot.waitUntil(window.banner.isVisible, timeout=2_000)
    window.show_connection(ONLINE)
    assert not window.banner.isVisible()


def test_a_short_loss_shows_nothing(
    window: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banner_module, "PATIENCE_MS", 200)
    window.show_connection(offline())
    window.show_connection(ONLINE)
    qtbot.wait(400)
    assert not window.banner.isVisible()


def test_the_banner_says_since_when_what_works_and_what_waits(window: MainWindow, qtbot: QtBot) -> None:
    window.show_connection(offline(60, unsent=2, reason="the relay does not answer"))
    qtbot.waitUntil(window.banner.isVisible)
    words = window.banner.accessibleName()
    for part in (
        "offline",
        "the relay does not answer",
        "3 minutes ago",
        "read, search and write",
        "2 messages wait",
    ):
        assert part in words
    assert window.inbox.status.text() == "Offline"
    assert window.inbox.isEnabled()


# --- toasts ---------------------------------------------------------------------------------------


def test_a_toast_replaces_the_one_with_its_key(window: MainWindow) -> None:
    window.toasts.show("a", "first")
    window.toasts.show("b", "other", error=True)
    window.toasts.show("a", "second")
    assert sorted(window.toasts.texts()) == ["other", "second"]
    window.toasts.dismiss("a")
    assert window.toasts.texts() == ["other"]


def test_a_toast_goes_by_itself_and_an_error_stays(
    window: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("desktop.ui.toast._SHOWN_MS", 100)
    window.toasts.show("a", "note")
    window.toasts.show("b", "error", error=True)
    qtbot.waitUntil(lambda: window.toasts.texts() == ["error"])
    qtbot.wait(200)
    assert window.toasts.texts() == ["error"]


# --- memory ---------------------------------------------------------------------------------------


def test_size_and_zoom_are_kept(ui: QApplication, tmp_path: Path) -> None:
    def make() -> MainWindow:
        settings = QSettings(str(tmp_path / "window.ini"), QSettings.Format.IniFormat)
        return MainWindow(ListInbox(people(datetime.now(UTC))), ListTimeline(), settings)

    first = make()
    first.show()
    first.resize(760, 600)
    first.chat.view.set_zoom(1.25)
    first.close()
    second = make()
    assert (second.width(), second.height()) == (760, 600)
    assert second.chat.view.zoom == 1.25


def test_a_damaged_settings_file_is_no_obstacle(ui: QApplication, tmp_path: Path) -> None:
    (tmp_path / "window.ini").write_text("[window]\ngeometry=@Invalid\nsplit=5\n[chat]\nzoom=soft\n")
    settings = QSettings(str(tmp_path / "window.ini"), QSettings.Format.IniFormat)
    window = MainWindow(ListInbox([]), ListTimeline(), settings)
    assert window.chat.view.zoom == 1.0


def test_closing_saves_the_draft(window: MainWindow, qtbot: QtBot) -> None:
    press(window, Qt.Key.Key_Down, ALT)
    window.chat.composer.editor.set_text("half a sentence")
    with qtbot.waitSignal(window.chat.composer.draft_changed) as caught:
        window.close()
    assert caught.args == ["half a sentence"]


def test_a_changed_head_is_shown(window: MainWindow) -> None:
    row = people(datetime.now(UTC))[0]
    window.show_conversation(row, "")
    window.chat.update_head(
        row.__class__(**{**{n: getattr(row, n) for n in row.__struct_fields__}, "name": "New Name"})
    )
    assert any(label.text() == "New Name" for label in window.chat.findChildren(Label))
    assert story(row.id, datetime.now(UTC))
