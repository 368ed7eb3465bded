"""Fonts and sizes: one scale of text roles, spacing on a 4 px grid.

Sizes follow the system's font size. The chat has its own zoom on top (`chat_font`).
"""

from enum import Enum
from functools import lru_cache
from typing import Final

from PySide6.QtGui import QFont, QFontDatabase
from PySide6.QtWidgets import QApplication

# Spacing and radii in logical pixels.
SPACE_1: Final = 4
SPACE_2: Final = 8
SPACE_3: Final = 12
SPACE_4: Final = 16
SPACE_5: Final = 24
SPACE_6: Final = 32
RADIUS_SMALL: Final = 6
RADIUS: Final = 10
RADIUS_LARGE: Final = 16

_BASE_MIN_PX: Final = 14.0
_REFERENCE_PX: Final = 14.0

# What a desktop names its interface font is used as it is, unless it is one of these fallbacks of X11.
_PLAIN_FAMILIES: Final = frozenset({"Sans Serif", "Sans", "DejaVu Sans", "Bitstream Vera Sans", ""})
_GOOD_FAMILIES: Final = ("Inter", "Noto Sans", "Segoe UI", "Cantarell", "Ubuntu", "Liberation Sans")
_OTHER_SCRIPTS: Final = (
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans CJK SC",
    "Noto Sans",
    "DejaVu Sans",
)
_EMOJI_FAMILIES: Final = ("Noto Color Emoji", "Segoe UI Emoji", "Apple Color Emoji")
_MONO_FAMILIES: Final = ("JetBrains Mono", "Noto Sans Mono", "DejaVu Sans Mono", "Consolas", "Menlo")


class Role(Enum):
    """What a piece of text is; its value is (size over the base size, weight)."""

    DISPLAY = (1.72, QFont.Weight.DemiBold)
    TITLE = (1.22, QFont.Weight.DemiBold)
    HEADING = (1.07, QFont.Weight.DemiBold)
    BODY = (1.0, QFont.Weight.Normal)
    BODY_STRONG = (1.0, QFont.Weight.DemiBold)
    SECONDARY = (0.93, QFont.Weight.Normal)
    SECONDARY_STRONG = (0.93, QFont.Weight.DemiBold)
    CAPTION = (0.82, QFont.Weight.Normal)
    CAPTION_STRONG = (0.82, QFont.Weight.DemiBold)


def install_fonts(app: QApplication) -> None:
    """Choose the interface font and name the colour emoji font."""
    font = QFont(app.font())
    families = set(QFontDatabase.families())
    if font.family() in _PLAIN_FAMILIES:
        chosen = next((name for name in _GOOD_FAMILIES if name in families), font.family())
        others = [name for name in _OTHER_SCRIPTS if name in families and name != chosen]
        font.setFamilies([chosen, *others])
    font.setPixelSize(round(max(_BASE_MIN_PX, _pixels(font))))
    app.setFont(font)
    QFontDatabase.setApplicationEmojiFontFamilies([name for name in _EMOJI_FAMILIES if name in families])
    _font.cache_clear()
    _mono_family.cache_clear()


def scale() -> float:
    """How much larger than our reference the system's text is; for sizes that must grow with it."""
    return QApplication.font().pixelSize() / _REFERENCE_PX


def font(role: Role) -> QFont:
    """The interface font in a role. Not to be changed in place: it is shared."""
    return _font(role, 1.0, mono=False)


def chat_font(role: Role, zoom: float, *, mono: bool = False) -> QFont:
    """As `font`, at the chat's zoom."""
    return _font(role, zoom, mono=mono)


def _pixels(font: QFont) -> float:
    if font.pixelSize() > 0:
        return font.pixelSize()
    return font.pointSizeF() * QApplication.primaryScreen().logicalDotsPerInch() / 72.0


@lru_cache(maxsize=128)
def _font(role: Role, zoom: float, *, mono: bool) -> QFont:
    factor, weight = role.value
    made = QFont(QApplication.font())
    made.setPixelSize(max(8, round(made.pixelSize() * factor * zoom)))
    made.setWeight(weight)
    if mono:
        made.setFamilies([_mono_family(), *made.families()])
        made.setStyleHint(QFont.StyleHint.Monospace)
    return made


@lru_cache(maxsize=1)
def _mono_family() -> str:
    families = set(QFontDatabase.families())
    fixed = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont).family()
    return next((name for name in _MONO_FAMILIES if name in families), fixed)
