"""Every size of the timeline, in logical pixels at the current zoom; no other file has a literal for one."""

from dataclasses import dataclass, field
from typing import Final

from PySide6.QtCore import Qt
from PySide6.QtGui import QFont, QFontMetricsF, QStaticText

from desktop.ui.ticks import tick_width
from desktop.ui.type_scale import Role, chat_font, scale

ZOOM_STEPS: Final = (0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class Metrics:
    """Made once per zoom and direction; elements laid out with one are not valid for another."""

    zoom: float
    mirrored: bool

    body: QFont
    code: QFont
    name: QFont
    meta: QFont
    notice: QFont
    action: QFont
    chip: QFont
    emoji: tuple[QFont, ...]

    line_gap: float
    meta_height: int
    tick_height: int
    tick_width: int
    name_height: int
    chip_height: int

    side: int
    column: int
    bubble_max: int
    bubble_min: int
    pad_x: int
    pad_top: int
    pad_bottom: int
    radius: int
    radius_joined: int
    tail: int
    gap_in_group: int
    gap_between_groups: int
    divider_margin: int

    _times: dict[str, QStaticText] = field(default_factory=dict)

    def time_text(self, text: str) -> QStaticText:
        """A clock time laid out once; there are few different ones."""
        made = self._times.get(text)
        if made is None:
            made = self._times[text] = QStaticText(text)
            made.setTextFormat(Qt.TextFormat.PlainText)
            made.prepare(font=self.meta)
        return made

    def time_width(self, text: str) -> float:
        return self.time_text(text).size().width()

    def bubble_limit(self, width: int) -> int:
        """Widest bubble in a view of `width`."""
        inner = min(width, self.column) - 2 * self.side
        return max(self.bubble_min, min(self.bubble_max, round(inner * 0.78)))

    def column_left(self, width: int) -> int:
        """Left edge of the column of bubbles, centred in a wide view."""
        return max(0, (width - self.column) // 2) + self.side


def make_metrics(zoom: float, *, mirrored: bool) -> Metrics:
    body = chat_font(Role.BODY, zoom)
    meta = chat_font(Role.CAPTION, zoom)
    meta_metrics = QFontMetricsF(meta)
    unit = zoom * scale()

    def px(value: float) -> int:
        return round(value * unit)

    emoji = []
    for factor in (2.9, 2.5, 2.2):
        large = QFont(body)
        large.setPixelSize(round(body.pixelSize() * factor))
        emoji.append(large)
    name = chat_font(Role.SECONDARY_STRONG, zoom)
    chip = chat_font(Role.CAPTION_STRONG, zoom)
    tick_height = px(12)
    return Metrics(
        zoom=zoom,
        mirrored=mirrored,
        body=body,
        code=chat_font(Role.SECONDARY, zoom, mono=True),
        name=name,
        meta=meta,
        notice=chat_font(Role.SECONDARY, zoom),
        action=chat_font(Role.SECONDARY_STRONG, zoom),
        chip=chip,
        emoji=tuple(emoji),
        line_gap=px(2.5),
        meta_height=round(meta_metrics.height()),
        tick_height=tick_height,
        tick_width=tick_width(tick_height),
        name_height=round(QFontMetricsF(name).height()) + px(2),
        chip_height=round(QFontMetricsF(chip).height()) + px(8),
        side=px(18),
        column=px(1080),
        bubble_max=px(560),
        bubble_min=px(120),
        pad_x=px(11),
        pad_top=px(7),
        pad_bottom=px(7),
        radius=px(14),
        radius_joined=px(5),
        tail=px(6),
        gap_in_group=px(3),
        gap_between_groups=px(10),
        divider_margin=px(10),
    )
