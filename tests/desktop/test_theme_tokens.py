"""Colours: every text can be read on its ground, both tables are whole, and the theme follows the system."""

from dataclasses import fields

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication, QLineEdit

from desktop.ui.theme import Mode, mixed, palette, theme
from desktop.ui.tokens import DARK, LIGHT, READABLE, VISIBLE, Tokens, contrast

TABLES = {"light": LIGHT, "dark": DARK}


def test_contrast_is_that_of_wcag() -> None:
    assert contrast(QColor("#000000"), QColor("#ffffff")) == pytest.approx(21)
    assert contrast(QColor("#777777"), QColor("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("text", "ground"), READABLE)
def test_text_can_be_read(table: str, text: str, ground: str) -> None:
    tokens = TABLES[table]
    assert contrast(getattr(tokens, text), getattr(tokens, ground)) >= 4.5


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("mark", "ground"), VISIBLE)
def test_signs_can_be_seen(table: str, mark: str, ground: str) -> None:
    tokens = TABLES[table]
    assert contrast(getattr(tokens, mark), getattr(tokens, ground)) >= 3


@pytest.mark.parametrize("tokens", TABLES.values(), ids=TABLES)
def test_every_text_token_is_in_a_tested_pair(tokens: Tokens) -> None:
    """A new text colour without a pair would escape the test of contrast."""
    texts = {
        field.name
        for field in fields(tokens)
        if field.name.endswith(("_text", "_link", "_meta"))
        or field.name.startswith(("text_", "on_", "name_"))
    }
    assert texts - {pair[0] for pair in READABLE} == {"text_disabled"}  # WCAG exempts what cannot be used


@pytest.mark.parametrize("tokens", TABLES.values(), ids=TABLES)
def test_colours_are_valid_and_avatars_differ(tokens: Tokens) -> None:
    for field in fields(tokens):
        value = getattr(tokens, field.name)
        assert not isinstance(value, QColor) or value.isValid(), field.name
    assert len({colour.rgba() for colour in tokens.avatars}) == 8
    assert len({colour.rgba() for colour in tokens.names}) == 8


def test_a_change_of_mode_sets_the_palette_and_tells(ui: QApplication) -> None:
    told = []
    theme().changed.connect(lambda: told.append(theme().tokens))
    theme().set_mode(Mode.DARK)
    assert told[-1] is DARK
    assert ui.palette().color(QPalette.ColorRole.Window) == DARK.surface
    theme().set_mode(Mode.LIGHT)
    assert ui.palette().color(QPalette.ColorRole.Window) == LIGHT.surface


def _system_becomes(scheme: Qt.ColorScheme, ui: QApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    """The offscreen platform has no preference of its own; this is where a desktop's would come in."""
    monkeypatch.setattr("desktop.ui.theme.system_is_dark", lambda: scheme is Qt.ColorScheme.Dark)
    ui.styleHints().colorSchemeChanged.emit(scheme)


def test_follows_the_system_while_it_is_running(ui: QApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    theme().set_mode(Mode.SYSTEM)
    _system_becomes(Qt.ColorScheme.Dark, ui, monkeypatch)
    assert theme().tokens is DARK
    _system_becomes(Qt.ColorScheme.Light, ui, monkeypatch)
    assert theme().tokens is LIGHT


def test_a_chosen_mode_does_not_follow_the_system(ui: QApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    theme().set_mode(Mode.LIGHT)
    _system_becomes(Qt.ColorScheme.Dark, ui, monkeypatch)
    assert theme().tokens is LIGHT


def test_disabled_text_differs(ui: QApplication) -> None:
    made = palette(LIGHT)
    assert made.color(QPalette.ColorGroup.Disabled, QPalette.ColorRole.Text) == LIGHT.text_disabled


def test_mixing_reaches_both_ends() -> None:
    assert mixed(QColor("#000000"), QColor("#ffffff"), 0) == QColor("#000000")
    assert mixed(QColor("#000000"), QColor("#ffffff"), 1).name() == "#ffffff"


def test_what_is_on_screen_changes_its_colours_too(ui: QApplication) -> None:
    """Also what the style sheet paints: the style keeps the colours it has resolved for a widget."""
    field = QLineEdit()
    field.setFixedSize(200, 40)
    field.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    field.show()
    light = field.grab().toImage().pixelColor(100, 6)
    theme().set_mode(Mode.DARK)
    ui.processEvents()
    dark = field.grab().toImage().pixelColor(100, 6)
    theme().set_mode(Mode.LIGHT)
    ui.processEvents()
    assert dark.lightness() < 100 < light.lightness()
    assert field.grab().toImage().pixelColor(100, 6) == light
