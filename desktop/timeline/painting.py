"""What every element paints with, and the shapes of the timeline: bubbles, chips, the background."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from uuid import UUID

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPainterPath, QPixmap, QTransform

from desktop.timeline.hit import Action
from desktop.timeline.metrics import Metrics
from desktop.ui import icon
from desktop.ui.tokens import Tokens

_PATTERN: Final = (  # name, x, y, size, angle on a tile of 260 x 260
    ("chat", 22, 26, 30, -12), ("check", 96, 14, 22, 8), ("mail", 160, 34, 27, 14),
    ("clock", 226, 18, 24, -8), ("send", 64, 78, 24, 20), ("globe", 132, 92, 28, -14),
    ("user", 204, 84, 26, 10), ("link", 14, 120, 24, 24), ("inbox", 84, 146, 28, -10),
    ("edit", 158, 154, 23, 12), ("chat", 222, 148, 26, 16), ("keyboard", 34, 192, 30, 8),
    ("lock", 112, 206, 24, -16), ("check", 176, 214, 24, -6), ("send", 232, 214, 22, 28),
)  # fmt: skip
_TILE: Final = 260


@dataclass(slots=True)
class PaintContext:
    """For one paint event. `clip` is in the view's content coordinates."""

    tokens: Tokens
    metrics: Metrics
    clip: QRectF
    focused_key: UUID | None = None
    hovered_key: UUID | None = None
    hovered_link: str = ""
    hovered_action: Action | None = None


def bubble_path(
    rect: QRectF, metrics: Metrics, *, on_right: bool, joined_above: bool, joined_below: bool
) -> QPainterPath:
    """The outline of a bubble. Towards its neighbours of the same group it has small corners; the last one
    of a group has a tail at its lower outer corner."""
    outer_top = metrics.radius_joined if joined_above else metrics.radius
    inner = metrics.radius
    path = QPainterPath()
    # Drawn with the speaker on the right; mirrored for the left.
    left, top, right, bottom = 0.0, 0.0, rect.width(), rect.height()
    path.moveTo(left + inner, top)
    path.lineTo(right - outer_top, top)
    path.arcTo(QRectF(right - 2 * outer_top, top, 2 * outer_top, 2 * outer_top), 90, -90)
    if joined_below:
        small = metrics.radius_joined
        path.lineTo(right, bottom - small)
        path.arcTo(QRectF(right - 2 * small, bottom - 2 * small, 2 * small, 2 * small), 0, -90)
    else:
        tail = metrics.tail
        path.lineTo(right, bottom - tail * 1.9)
        path.cubicTo(
            QPointF(right, bottom - tail * 0.9),
            QPointF(right + tail * 0.45, bottom - tail * 0.25),
            QPointF(right + tail, bottom),
        )
        path.lineTo(right - tail, bottom)
    path.lineTo(left + inner, bottom)
    path.arcTo(QRectF(left, bottom - 2 * inner, 2 * inner, 2 * inner), 270, -90)
    path.lineTo(left, top + inner)
    path.arcTo(QRectF(left, top, 2 * inner, 2 * inner), 180, -90)
    path.closeSubpath()
    if not on_right:
        path = QTransform(-1, 0, 0, 1, right, 0).map(path)
    path.translate(rect.topLeft())
    return path


def paint_chip(
    painter: QPainter, rect: QRectF, text: str, font: QFont, *, ground: QColor, ink: QColor
) -> None:
    """A small pill with words, as the date over the messages."""
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(ground)
    painter.drawRoundedRect(rect, rect.height() / 2, rect.height() / 2)
    painter.setPen(ink)
    painter.setFont(font)
    painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, text)


def paint_background(painter: QPainter, clip: QRectF, tokens: Tokens, dpr: float) -> None:
    """The chat's ground with its faint pattern. It does not move with the messages."""
    painter.fillRect(clip, tokens.chat_background)
    painter.drawTiledPixmap(clip, _pattern(tokens.chat_pattern.rgba(), dpr), clip.topLeft())


@lru_cache(maxsize=4)
def _pattern(rgba: int, dpr: float) -> QPixmap:
    tile = QPixmap(round(_TILE * dpr), round(_TILE * dpr))
    tile.setDevicePixelRatio(dpr)
    tile.fill(Qt.GlobalColor.transparent)
    painter = QPainter(tile)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    for name, x, y, size, angle in _PATTERN:
        # Drawn again past the edges, so that the tile has no seam.
        for dx in (-_TILE, 0, _TILE):
            for dy in (-_TILE, 0, _TILE):
                painter.save()
                painter.translate(x + dx, y + dy)
                painter.rotate(angle)
                icon.paint(painter, name, QColor.fromRgba(rgba), QRectF(-size / 2, -size / 2, size, size))
                painter.restore()
    painter.end()
    return tile
