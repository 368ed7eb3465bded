"""Light and dark: tokens to palette, following the system or the user's choice.

Widgets paint from `theme().tokens` and are repainted by the palette change; the few stock widgets take their
colours through `style.qss`, which never changes, because it only names palette roles. (Setting a new style
sheet costs ten times what a new palette costs.)
"""

from enum import StrEnum
from pathlib import Path
from typing import Final

from PySide6.QtCore import QDir, QObject, Qt, Signal
from PySide6.QtGui import QColor, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory

from desktop.ui import type_scale
from desktop.ui.tokens import DARK, LIGHT, Tokens

_STYLE_SHEET: Final = Path(__file__).with_name("style.qss")


class Mode(StrEnum):
    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


class Theme(QObject):
    """The application's one theme. `changed` comes after the palette has been set."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._mode = Mode.SYSTEM
        self._tokens = LIGHT
        self._followed: QGuiApplication | None = None

    @property
    def tokens(self) -> Tokens:
        return self._tokens

    @property
    def mode(self) -> Mode:
        return self._mode

    def install(self, app: QApplication, mode: Mode = Mode.SYSTEM) -> None:
        """Give `app` its style, fonts and colours; needed once, before the first widget."""
        app.setStyle(QStyleFactory.create("Fusion"))
        type_scale.install_fonts(app)
        QDir.setSearchPaths("uiicons", [str(_STYLE_SHEET.with_name("icons"))])
        app.setStyleSheet(_STYLE_SHEET.read_text(encoding="utf-8"))
        if self._followed is not app:
            app.styleHints().colorSchemeChanged.connect(self._on_system_changed)
            self._followed = app
        self.set_mode(mode)

    def set_mode(self, mode: Mode) -> None:
        self._mode = mode
        self._apply()

    def _on_system_changed(self) -> None:
        if self._mode is Mode.SYSTEM:
            self._apply()

    def _apply(self) -> None:
        dark = self._mode is Mode.DARK or (self._mode is Mode.SYSTEM and system_is_dark())
        self._tokens = DARK if dark else LIGHT
        QApplication.setPalette(palette(self._tokens))
        app = QApplication.instance()
        if isinstance(app, QApplication) and app.styleSheet():
            # The style keeps the colours it has resolved for each widget; set anew, it resolves them again.
            app.setStyleSheet(app.styleSheet())
        self.changed.emit()


def system_is_dark() -> bool:
    """What the desktop prefers; light where it does not say."""
    return QGuiApplication.styleHints().colorScheme() is Qt.ColorScheme.Dark


def palette(tokens: Tokens) -> QPalette:
    """The palette roles that `style.qss` and the stock widgets use."""
    role = QPalette.ColorRole
    roles = {
        role.Window: tokens.surface,
        role.WindowText: tokens.text_primary,
        role.Base: tokens.surface_sunken,
        role.AlternateBase: tokens.surface_raised,
        role.Text: tokens.text_primary,
        role.PlaceholderText: tokens.text_placeholder,
        role.Button: tokens.surface_sunken,
        role.ButtonText: tokens.text_primary,
        role.BrightText: tokens.on_accent,
        role.Light: tokens.surface_hover,
        role.Midlight: tokens.surface_pressed,
        role.Mid: tokens.border,
        role.Dark: tokens.border_strong,
        role.Shadow: tokens.text_tertiary,
        role.Highlight: tokens.selection,
        role.HighlightedText: tokens.selection_text,
        role.Accent: tokens.accent,
        role.Link: tokens.text_link,
        role.LinkVisited: tokens.text_link,
        role.ToolTipBase: tokens.tooltip,
        role.ToolTipText: tokens.tooltip_text,
    }
    result = QPalette()
    for each, colour in roles.items():
        result.setColor(each, colour)
    for each in (role.WindowText, role.Text, role.ButtonText):
        result.setColor(QPalette.ColorGroup.Disabled, each, tokens.text_disabled)
    return result


def mixed(one: QColor, other: QColor, share: float) -> QColor:
    """`one` with `share` (0 to 1) of `other` in it; for states between two tokens."""
    return QColor.fromRgbF(
        one.redF() + (other.redF() - one.redF()) * share,
        one.greenF() + (other.greenF() - one.greenF()) * share,
        one.blueF() + (other.blueF() - one.blueF()) * share,
        one.alphaF() + (other.alphaF() - one.alphaF()) * share,
    )


_theme: Theme | None = None


def theme() -> Theme:
    """The one theme of this process."""
    global _theme  # noqa: PLW0603 - made on first use: a QObject must not exist before the application
    if _theme is None:
        _theme = Theme()
    return _theme
