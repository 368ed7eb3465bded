"""Writing: Enter, input methods, the counter, drafts, and the service window."""

from datetime import UTC, datetime, timedelta

import pytest
from PySide6.QtCore import QCoreApplication, QMimeData, Qt
from PySide6.QtGui import QInputMethodEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from desktop.composer.panel import ComposerPanel
from desktop.ui.buttons import IconButton
from shared.limits import TEXT_MAX_CHARS


@pytest.fixture
def panel(ui: QApplication) -> ComposerPanel:
    made = ComposerPanel()
    made.resize(600, 120)
    made.show_conversation("Sara", datetime.now(UTC) - timedelta(hours=1), "")
    made.show()
    made.editor.setFocus()
    ui.processEvents()
    return made


def send_button(panel: ComposerPanel) -> IconButton:
    return next(button for button in panel.findChildren(IconButton) if "Send" in button.accessibleName())


def words_of(panel: ComposerPanel) -> str:
    from desktop.ui.widgets import Label

    return " ".join(label.text() for label in panel.findChildren(Label) if label.isVisible())


def test_enter_sends_and_clears(panel: ComposerPanel, qtbot: QtBot) -> None:
    QTest.keyClicks(panel.editor, "  Hello there ")
    with qtbot.waitSignal(panel.submitted) as caught:
        QTest.keyClick(panel.editor, Qt.Key.Key_Return)
    assert caught.args == ["Hello there"]
    assert panel.editor.text() == ""


def test_shift_enter_breaks_the_line(panel: ComposerPanel, qtbot: QtBot) -> None:
    with qtbot.assertNotEmitted(panel.submitted):
        QTest.keyClicks(panel.editor, "a")
        QTest.keyClick(panel.editor, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
        QTest.keyClicks(panel.editor, "b")
    assert panel.editor.text() == "a\nb"


def test_nothing_is_not_sent(panel: ComposerPanel, qtbot: QtBot) -> None:
    with qtbot.assertNotEmitted(panel.submitted):
        QTest.keyClick(panel.editor, Qt.Key.Key_Return)
        QTest.keyClicks(panel.editor, "   ")
        QTest.keyClick(panel.editor, Qt.Key.Key_Enter)
    assert not send_button(panel).isEnabled()


def test_enter_while_an_input_method_composes_does_not_send(panel: ComposerPanel, qtbot: QtBot) -> None:
    with qtbot.assertNotEmitted(panel.submitted):
        QCoreApplication.sendEvent(panel.editor, QInputMethodEvent("にほん", []))
        QTest.keyClick(panel.editor, Qt.Key.Key_Return)
    committed = QInputMethodEvent()
    committed.setCommitString("日本")
    QCoreApplication.sendEvent(panel.editor, committed)
    with qtbot.waitSignal(panel.submitted) as caught:
        QTest.keyClick(panel.editor, Qt.Key.Key_Return)
    assert caught.args == ["日本"]


def test_the_button_sends_too(panel: ComposerPanel, qtbot: QtBot) -> None:
    QTest.keyClicks(panel.editor, "x")
    with qtbot.waitSignal(panel.submitted):
        QTest.mouseClick(send_button(panel), Qt.MouseButton.LeftButton)


def test_it_grows_to_eight_lines_and_no_further(panel: ComposerPanel) -> None:
    heights = []
    for lines in (1, 2, 5, 8, 9, 30):
        panel.editor.set_text("\n".join("x" * lines))
        heights.append(panel.editor.height())
    assert heights[0] < heights[1] < heights[2] < heights[3]
    assert heights[3] == heights[4] == heights[5]
    panel.editor.clear()
    assert panel.editor.height() == heights[0]


def test_the_counter_shows_near_the_limit_and_stops_what_is_too_long(
    panel: ComposerPanel, qtbot: QtBot
) -> None:
    panel.editor.set_text("x" * 100)
    assert "left" not in words_of(panel).replace("min left", "")
    panel.editor.set_text("x" * (TEXT_MAX_CHARS - 10))
    assert "10 left" in words_of(panel)
    panel.editor.set_text("x" * (TEXT_MAX_CHARS + 3))
    assert "3 too many" in words_of(panel)
    with qtbot.assertNotEmitted(panel.submitted):
        QTest.keyClick(panel.editor, Qt.Key.Key_Return)


def test_pasted_text_is_plain(panel: ComposerPanel) -> None:
    data = QMimeData()
    data.setHtml("<b>bold</b>")
    data.setText("bold")
    panel.editor.insertFromMimeData(data)
    assert panel.editor.text() == "bold"


def test_a_draft_is_saved_on_a_pause_and_on_leaving(panel: ComposerPanel, qtbot: QtBot) -> None:
    with qtbot.waitSignal(panel.draft_changed, timeout=3_000) as caught:
        QTest.keyClicks(panel.editor, "draft")
    assert caught.args == ["draft"]
    QTest.keyClicks(panel.editor, "ed")
    with qtbot.waitSignal(panel.draft_changed) as caught:
        panel.leave()
    assert caught.args == ["drafted"]
    with qtbot.assertNotEmitted(panel.draft_changed):
        panel.leave()


def test_another_conversation_brings_its_own_draft(panel: ComposerPanel, qtbot: QtBot) -> None:
    with qtbot.assertNotEmitted(panel.draft_changed, wait=900):
        panel.show_conversation("Amir", datetime.now(UTC), "kept")
    assert panel.editor.text() == "kept"
    panel.editor.clear()
    with qtbot.waitSignal(panel.draft_changed) as caught:
        panel.leave()
    assert caught.args == [""]


def test_a_text_given_back_does_not_eat_what_is_being_written(panel: ComposerPanel) -> None:
    panel.restore("returned")
    assert panel.editor.text() == "returned"
    panel.editor.set_text("new")
    panel.restore("returned")
    assert panel.editor.text() == "returned\nnew"


def test_the_countdown(panel: ComposerPanel) -> None:
    panel.set_last_inbound(datetime.now(UTC) - timedelta(hours=20, minutes=47, seconds=30))
    assert "Reply window: 3 h 12 min left" in words_of(panel)


@pytest.mark.parametrize(
    ("hours", "words"), [(25, "The reply window is closed"), (None, "has not written yet")]
)
def test_a_closed_window_explains_and_sends_nothing(
    panel: ComposerPanel, qtbot: QtBot, hours: int | None, words: str
) -> None:
    panel.editor.set_text("kept text")
    panel.set_last_inbound(None if hours is None else datetime.now(UTC) - timedelta(hours=hours))
    assert words in words_of(panel)
    assert "template" in words_of(panel)
    with qtbot.assertNotEmitted(panel.submitted):
        QTest.keyClick(panel.editor, Qt.Key.Key_Return)
    assert not send_button(panel).isEnabled()
    assert panel.editor.text() == "kept text"


def test_the_window_opens_again_when_the_customer_writes(panel: ComposerPanel, qtbot: QtBot) -> None:
    panel.set_last_inbound(datetime.now(UTC) - timedelta(hours=30))
    panel.set_last_inbound(datetime.now(UTC))
    QTest.keyClicks(panel.editor, "x")
    with qtbot.waitSignal(panel.submitted):
        QTest.keyClick(panel.editor, Qt.Key.Key_Return)
