"""Colours by meaning. Paint code and the palette read these; no other file names a colour.

A pair in `READABLE` is text on a background: its contrast is at least 4.5 in both tables (WCAG AA), which
the tests hold. Names ending in `_soft` are tints for backgrounds.
"""

from dataclasses import dataclass, fields
from typing import Final

from PySide6.QtGui import QColor


@dataclass(frozen=True, slots=True)
class Tokens:
    """One table of colours. `dark` tells which kind of table it is."""

    dark: bool

    # Surfaces, from the back to the front
    window: QColor
    surface: QColor
    surface_sunken: QColor
    surface_hover: QColor
    surface_pressed: QColor
    surface_selected: QColor
    surface_raised: QColor
    rail: QColor
    rail_hover: QColor
    rail_active: QColor
    border: QColor
    border_strong: QColor
    shadow: QColor
    scrim: QColor
    skeleton: QColor
    scrollbar: QColor
    scrollbar_hover: QColor

    # Text and icons
    text_primary: QColor
    text_secondary: QColor
    text_tertiary: QColor
    text_disabled: QColor
    text_placeholder: QColor
    text_link: QColor
    icon: QColor
    icon_muted: QColor
    rail_icon: QColor
    rail_icon_active: QColor

    # Accent
    accent: QColor
    accent_hover: QColor
    accent_pressed: QColor
    accent_soft: QColor
    accent_text: QColor
    on_accent: QColor
    focus: QColor
    selection: QColor
    selection_text: QColor
    badge: QColor
    on_badge: QColor

    # Meanings
    danger: QColor
    danger_hover: QColor
    danger_soft: QColor
    danger_text: QColor
    on_danger: QColor
    warning_soft: QColor
    warning_text: QColor
    warning_mark: QColor
    success_text: QColor
    success_mark: QColor
    tooltip: QColor
    tooltip_text: QColor

    # Chat
    chat_background: QColor
    chat_pattern: QColor
    bubble_in: QColor
    bubble_in_text: QColor
    bubble_in_meta: QColor
    bubble_in_link: QColor
    bubble_out: QColor
    bubble_out_text: QColor
    bubble_out_meta: QColor
    bubble_out_link: QColor
    bubble_shadow: QColor
    bubble_hover: QColor
    bubble_focus: QColor
    bubble_selection: QColor
    bubble_code: QColor
    tick: QColor
    tick_read: QColor
    tick_failed: QColor
    chip: QColor
    chip_text: QColor
    unread_divider: QColor
    unread_divider_text: QColor

    # Service window
    window_open: QColor
    window_ending: QColor
    window_closed: QColor

    # People; `on_avatar` is written on all of them
    avatar_1: QColor
    avatar_2: QColor
    avatar_3: QColor
    avatar_4: QColor
    avatar_5: QColor
    avatar_6: QColor
    avatar_7: QColor
    avatar_8: QColor
    on_avatar: QColor

    # Names of colleagues over their messages, in the same order as the avatars
    name_1: QColor
    name_2: QColor
    name_3: QColor
    name_4: QColor
    name_5: QColor
    name_6: QColor
    name_7: QColor
    name_8: QColor

    @property
    def avatars(self) -> tuple[QColor, ...]:
        return (
            self.avatar_1,
            self.avatar_2,
            self.avatar_3,
            self.avatar_4,
            self.avatar_5,
            self.avatar_6,
            self.avatar_7,
            self.avatar_8,
        )

    @property
    def names(self) -> tuple[QColor, ...]:
        return (
            self.name_1,
            self.name_2,
            self.name_3,
            self.name_4,
            self.name_5,
            self.name_6,
            self.name_7,
            self.name_8,
        )


def _table(*, dark: bool, **colours: str) -> Tokens:
    """Colours are `#RRGGBB` or `#AARRGGBB`."""
    return Tokens(dark=dark, **{name: QColor(value) for name, value in colours.items()})


LIGHT: Final = _table(
    dark=False,
    window="#F3F6F5",
    surface="#FFFFFF",
    surface_sunken="#F1F4F4",
    surface_hover="#F3F6F6",
    surface_pressed="#E7EDEC",
    surface_selected="#DFF1EB",
    surface_raised="#FFFFFF",
    rail="#14322C",
    rail_hover="#1F423B",
    rail_active="#2B544B",
    border="#E2E8E7",
    border_strong="#C5CFCD",
    shadow="#26102420",
    scrim="#73081512",
    skeleton="#E9EEED",
    scrollbar="#3310241F",
    scrollbar_hover="#6610241F",
    text_primary="#14201D",
    text_secondary="#566561",
    text_tertiary="#5E6D69",
    text_disabled="#9DA9A6",
    text_placeholder="#62716D",
    text_link="#0A62A8",
    icon="#4A5A56",
    icon_muted="#7D8C88",
    rail_icon="#A8C5BD",
    rail_icon_active="#FFFFFF",
    accent="#0D7A64",
    accent_hover="#0B6B58",
    accent_pressed="#095A4A",
    accent_soft="#E1F2EC",
    accent_text="#0B6F5B",
    on_accent="#FFFFFF",
    focus="#0D7A64",
    selection="#BFE4D9",
    selection_text="#14201D",
    badge="#0D7A64",
    on_badge="#FFFFFF",
    danger="#C42B36",
    danger_hover="#AC222D",
    danger_soft="#FDECEC",
    danger_text="#B3202B",
    on_danger="#FFFFFF",
    warning_soft="#FFF2D6",
    warning_text="#7A4B00",
    warning_mark="#D98A04",
    success_text="#14724A",
    success_mark="#1E9E6A",
    tooltip="#1E2E2A",
    tooltip_text="#F2F7F5",
    chat_background="#E6EEEA",
    chat_pattern="#0A0D5A48",
    bubble_in="#FFFFFF",
    bubble_in_text="#14201D",
    bubble_in_meta="#62706C",
    bubble_in_link="#0A62A8",
    bubble_out="#D3F3E1",
    bubble_out_text="#10211B",
    bubble_out_meta="#44695A",
    bubble_out_link="#0A5A9C",
    bubble_shadow="#1E123028",
    bubble_hover="#080B3A2E",
    bubble_focus="#0D7A64",
    bubble_selection="#9FD3F2",
    bubble_code="#0F0B3A2E",
    tick="#4F7868",
    tick_read="#0A7BD6",
    tick_failed="#C42B36",
    chip="#F7FBF9",
    chip_text="#4F605B",
    unread_divider="#F7FBF9",
    unread_divider_text="#0B6F5B",
    window_open="#1E9E6A",
    window_ending="#D98A04",
    window_closed="#8A9794",
    avatar_1="#C14A3E",
    avatar_2="#A95F0A",
    avatar_3="#7658C4",
    avatar_4="#2C7A4C",
    avatar_5="#0C7288",
    avatar_6="#2F62C4",
    avatar_7="#AE3C7A",
    avatar_8="#676A1C",
    on_avatar="#FFFFFF",
    name_1="#A5372C",
    name_2="#864803",
    name_3="#6445B4",
    name_4="#1F643B",
    name_5="#075D70",
    name_6="#2350AB",
    name_7="#962C67",
    name_8="#555812",
)

DARK: Final = _table(
    dark=True,
    window="#0E1416",
    surface="#151C1F",
    surface_sunken="#1F282C",
    surface_hover="#1B2428",
    surface_pressed="#253136",
    surface_selected="#1A3731",
    surface_raised="#1F292D",
    rail="#0A0F11",
    rail_hover="#161F22",
    rail_active="#1B3832",
    border="#242E32",
    border_strong="#3A474C",
    shadow="#80000000",
    scrim="#99000000",
    skeleton="#222C30",
    scrollbar="#33FFFFFF",
    scrollbar_hover="#66FFFFFF",
    text_primary="#E6EDEB",
    text_secondary="#A0AFAB",
    text_tertiary="#94A39F",
    text_disabled="#5F6D6A",
    text_placeholder="#92A19D",
    text_link="#6CB9F2",
    icon="#B4C1BD",
    icon_muted="#7C8B87",
    rail_icon="#8CA39C",
    rail_icon_active="#E9F4F0",
    accent="#127D68",
    accent_hover="#14856F",
    accent_pressed="#0F6B59",
    accent_soft="#17322C",
    accent_text="#52CBB0",
    on_accent="#FFFFFF",
    focus="#3DB89C",
    selection="#225A4E",
    selection_text="#F2F8F6",
    badge="#22B08F",
    on_badge="#06231C",
    danger="#C73B45",
    danger_hover="#CC4450",
    danger_soft="#3A1E21",
    danger_text="#FF9A9E",
    on_danger="#FFFFFF",
    warning_soft="#38290F",
    warning_text="#F3C673",
    warning_mark="#E5A32E",
    success_text="#6AD3A2",
    success_mark="#35B27D",
    tooltip="#2C383C",
    tooltip_text="#EAF1EF",
    chat_background="#0D1315",
    chat_pattern="#0AFFFFFF",
    bubble_in="#1E282C",
    bubble_in_text="#E6EDEB",
    bubble_in_meta="#97A6A2",
    bubble_in_link="#6CB9F2",
    bubble_out="#10493D",
    bubble_out_text="#E8F4F0",
    bubble_out_meta="#9CC6B9",
    bubble_out_link="#8CCBF7",
    bubble_shadow="#40000000",
    bubble_hover="#0AFFFFFF",
    bubble_focus="#3DB89C",
    bubble_selection="#2F6E9E",
    bubble_code="#1FFFFFFF",
    tick="#9CC6B9",
    tick_read="#5CC1FF",
    tick_failed="#FF7F86",
    chip="#1A2326",
    chip_text="#A9B7B3",
    unread_divider="#1A2326",
    unread_divider_text="#52CBB0",
    window_open="#35B27D",
    window_ending="#E5A32E",
    window_closed="#74827F",
    avatar_1="#B54A40",
    avatar_2="#9B5B12",
    avatar_3="#7259BA",
    avatar_4="#307550",
    avatar_5="#1B7183",
    avatar_6="#3A64B8",
    avatar_7="#A34176",
    avatar_8="#66692A",
    on_avatar="#FFFFFF",
    name_1="#F29C92",
    name_2="#E6B06A",
    name_3="#C0ADF5",
    name_4="#86D0A2",
    name_5="#7CCFE0",
    name_6="#9DBDF7",
    name_7="#F0A3CB",
    name_8="#CFD27E",
)

READABLE: Final[tuple[tuple[str, str], ...]] = (
    *(
        (text, ground)
        for text in ("text_primary", "text_secondary")
        for ground in (
            "window",
            "surface",
            "surface_sunken",
            "surface_hover",
            "surface_selected",
            "surface_raised",
        )
    ),
    *(
        (text, ground)
        for text in ("text_tertiary", "text_link")
        for ground in (
            "surface",
            "surface_hover",
            "surface_selected",
        )
    ),
    ("text_placeholder", "surface_sunken"),
    ("rail_icon", "rail"),
    ("rail_icon_active", "rail_active"),
    ("on_accent", "accent"),
    ("on_accent", "accent_hover"),
    ("on_accent", "accent_pressed"),
    ("accent_text", "surface"),
    ("accent_text", "accent_soft"),
    ("accent_text", "surface_selected"),
    ("selection_text", "selection"),
    ("on_badge", "badge"),
    ("on_danger", "danger"),
    ("on_danger", "danger_hover"),
    ("danger_text", "danger_soft"),
    ("danger_text", "surface"),
    ("warning_text", "warning_soft"),
    ("warning_text", "surface"),
    ("warning_text", "surface_selected"),
    ("success_text", "surface"),
    ("tooltip_text", "tooltip"),
    *(("bubble_in_" + part, "bubble_in") for part in ("text", "meta", "link")),
    *(("bubble_out_" + part, "bubble_out") for part in ("text", "meta", "link")),
    ("bubble_in_text", "bubble_selection"),
    ("bubble_out_text", "bubble_selection"),
    ("danger_text", "bubble_in"),
    ("danger_text", "bubble_out"),
    ("chip_text", "chip"),
    ("unread_divider_text", "unread_divider"),
    *(("on_avatar", f"avatar_{n}") for n in range(1, 9)),
    *((f"name_{n}", "bubble_out") for n in range(1, 9)),
)
"""(text, background) pairs that are painted over each other."""

VISIBLE: Final[tuple[tuple[str, str], ...]] = (
    *((mark, ground) for mark in ("tick", "tick_read", "tick_failed") for ground in ("bubble_out",)),
    *((mark, "surface") for mark in ("tick", "tick_read", "tick_failed", "icon", "icon_muted", "focus")),
    ("bubble_focus", "chat_background"),
    ("window_open", "surface"),
    ("success_mark", "surface"),
)
"""(mark, background) pairs of signs without text: contrast at least 3 (WCAG 1.4.11)."""


def contrast(one: QColor, other: QColor) -> float:
    """WCAG contrast ratio of two opaque colours, 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: QColor) -> float:
    def linear(channel: float) -> float:
        return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

    return 0.2126 * linear(colour.redF()) + 0.7152 * linear(colour.greenF()) + 0.0722 * linear(colour.blueF())


COLOUR_NAMES: Final = tuple(field.name for field in fields(Tokens) if field.name != "dark")
