"""The signs of a message's delivery: clock, one tick, two ticks, two blue ticks, a red mark.

One drawing for the timeline and the inbox, so that they never disagree.
"""

from enum import Enum
from functools import lru_cache
from typing import Final

from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor, QPainter, QPen, QPixmap

from desktop.cache.rows import MessageRow
from desktop.ui.tokens import Tokens
from shared.delivery import DeliveryStatus


class Tick(Enum):
    """What is shown; the value is what a screen reader says."""

    NONE = ""
    WAITING = "waiting to be sent"
    UNCONFIRMED = "delivery not confirmed"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "not sent"


_OF_STATUS: Final = {
    DeliveryStatus.RECEIVED: Tick.NONE,
    DeliveryStatus.QUEUED: Tick.WAITING,
    DeliveryStatus.SENDING: Tick.WAITING,
    DeliveryStatus.UNCONFIRMED: Tick.UNCONFIRMED,
    DeliveryStatus.ACCEPTED: Tick.SENT,
    DeliveryStatus.SENT: Tick.SENT,
    DeliveryStatus.DELIVERED: Tick.DELIVERED,
    DeliveryStatus.READ: Tick.READ,
    DeliveryStatus.PLAYED: Tick.READ,
    DeliveryStatus.FAILED: Tick.FAILED,
    DeliveryStatus.CANCELLED: Tick.FAILED,
}


def tick_of(status: DeliveryStatus) -> Tick:
    return _OF_STATUS[status]


def tick_of_row(row: MessageRow) -> Tick:
    return _OF_STATUS[row.status]


def tick_width(height: int) -> int:
    """Logical pixels; the same for every sign, so that a new status never moves the time beside it."""
    return round(height * 1.42)


def paint_tick(
    painter: QPainter, tick: Tick, at: QPointF, height: int, *, tokens: Tokens, ink: QColor
) -> None:
    """Paint the sign with its top left corner at `at`; `ink` colours the plain ones."""
    if tick is Tick.NONE:
        return
    colour = {Tick.READ: tokens.tick_read, Tick.FAILED: tokens.tick_failed}.get(tick, ink)
    painter.drawPixmap(at, _picture(tick, colour.rgba(), height, painter.device().devicePixelRatioF()))


@lru_cache(maxsize=128)
def _picture(tick: Tick, rgba: int, height: int, dpr: float) -> QPixmap:
    width = tick_width(height)
    made = QPixmap(round(width * dpr), round(height * dpr))
    made.setDevicePixelRatio(dpr)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    # Drawn on a grid of 17 x 12 units, right-aligned for the round signs.
    painter.scale(height / 12, height / 12)
    painter.setPen(
        QPen(
            QColor.fromRgba(rgba),
            1.35,
            Qt.PenStyle.SolidLine,
            Qt.PenCapStyle.RoundCap,
            Qt.PenJoinStyle.RoundJoin,
        )
    )
    match tick:
        case Tick.SENT:
            painter.drawPolyline(_points((5.2, 6.4), (8.2, 9.4), (14.0, 2.8)))
        case Tick.DELIVERED | Tick.READ:
            painter.drawPolyline(_points((1.2, 6.4), (4.2, 9.4), (10.0, 2.8)))
            painter.drawPolyline(_points((7.1, 8.5), (8.0, 9.4), (15.4 - 1.6, 2.8)))
        case Tick.WAITING:
            painter.drawEllipse(QPointF(10.4, 6.1), 4.6, 4.6)
            painter.drawPolyline(_points((10.4, 3.6), (10.4, 6.3), (12.2, 7.3)))
        case Tick.UNCONFIRMED:
            painter.drawEllipse(QPointF(10.4, 6.1), 4.6, 4.6)
            painter.drawPolyline(
                _points((8.9, 5.0), (9.3, 4.0), (10.5, 3.7), (11.7, 4.4), (11.6, 5.5), (10.4, 6.4))
            )
            painter.drawPoint(QPointF(10.4, 8.6))
        case Tick.FAILED:
            painter.setBrush(QColor.fromRgba(rgba))
            painter.drawEllipse(QPointF(10.4, 6.1), 4.6, 4.6)
            painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Clear)
            painter.drawPolyline(_points((10.4, 3.7), (10.4, 6.6)))
            painter.drawPoint(QPointF(10.4, 8.6))
        case Tick.NONE:
            pass
    painter.end()
    return made


def _points(*pairs: tuple[float, float]) -> list[QPointF]:
    return [QPointF(x, y) for x, y in pairs]
