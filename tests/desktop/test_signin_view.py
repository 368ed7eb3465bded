"""The sign-in window by keyboard alone, and what it says."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from desktop.signin.view import Credentials, SignInView


@pytest.fixture
def view(ui: QApplication) -> SignInView:
    made = SignInView()
    made.resize(700, 760)
    made.show()
    made.activateWindow()
    ui.processEvents()
    return made


def focused() -> QWidget:
    widget = QApplication.focusWidget()
    assert widget is not None
    return widget


def test_by_keyboard_from_the_first_empty_field(view: SignInView, qtbot: QtBot, ui: QApplication) -> None:
    view.prefill("https://relay.example", "", can_remember=True, why_not="")
    assert ui.focusWidget() is view.email
    QTest.keyClicks(focused(), "sara@example.com")
    QTest.keyClick(focused(), Qt.Key.Key_Tab)
    QTest.keyClicks(focused(), "secret words")
    QTest.keyClick(focused(), Qt.Key.Key_Tab)
    assert ui.focusWidget() is view.remember
    QTest.keyClick(focused(), Qt.Key.Key_Space)
    QTest.keyClick(focused(), Qt.Key.Key_Tab)
    assert ui.focusWidget() is view.button
    with qtbot.waitSignal(view.submitted) as caught:
        QTest.keyClick(focused(), Qt.Key.Key_Space)
    assert caught.args == [
        Credentials("https://relay.example", "sara@example.com", "secret words", remember=False)
    ]


@pytest.mark.parametrize(
    ("given", "words", "field"),
    [
        (("", "a@b.c", "x"), "Where is your relay?", "relay"),
        (("https://r", "someone", "x"), "not an e-mail", "email"),
        (("https://r", "a@b.c", ""), "password is missing", "password"),
    ],
)
def test_what_is_missing_is_said_before_the_relay_is_asked(
    view: SignInView, qtbot: QtBot, given: tuple[str, str, str], words: str, field: str
) -> None:
    for line, text in zip((view.relay, view.email, view.password), given, strict=True):
        line.setText(text)
    with qtbot.assertNotEmitted(view.submitted):
        QTest.keyClick(view.password, Qt.Key.Key_Return)
    assert words in view.error_text()
    assert getattr(view, field).hasFocus()


def test_busy_takes_nothing_and_an_error_gives_everything_back(view: SignInView, qtbot: QtBot) -> None:
    view.prefill("https://r", "a@b.c", can_remember=True, why_not="")
    view.password.setText("wrong")
    view.show_busy(True)
    assert view.button.text() == "Signing in…"
    with qtbot.assertNotEmitted(view.submitted):
        QTest.keyClick(view.password, Qt.Key.Key_Return)
    view.show_error("E-mail or password is wrong.", "Check both.")
    assert view.error_text() == "E-mail or password is wrong. Check both."
    assert view.button.text() == "Sign in"
    assert view.button.isEnabled()
    assert view.password.selectedText() == "wrong" or view.password.hasSelectedText()
    QTest.keyClicks(view.password, "right")
    assert view.error_text() == ""


def test_the_password_can_be_looked_at(view: SignInView) -> None:
    view.password.setText("secret")
    assert view.password.echoMode() is QLineEdit.EchoMode.Password
    view.reveal.trigger()
    assert view.password.echoMode() is QLineEdit.EchoMode.Normal
    assert view.reveal.text() == "Hide password"
    view.reveal.trigger()
    assert view.password.echoMode() is QLineEdit.EchoMode.Password


def test_without_a_keyring_it_says_so_and_does_not_promise(view: SignInView) -> None:
    view.prefill("https://r", "a@b.c", can_remember=False, why_not="This computer has no keyring.")
    assert not view.remember.isEnabled()
    assert not view.remember.isChecked()
    view.show_busy(True)
    view.show_busy(False)
    assert not view.remember.isEnabled()
