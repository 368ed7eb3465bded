"""Round avatars with initials; the colour is the same for a contact on every machine."""

from functools import lru_cache
from uuid import UUID

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QLinearGradient, QPainter, QPaintEvent, QPixmap
from PySide6.QtWidgets import QWidget

from desktop.ui import icon
from desktop.ui.text import initials
from desktop.ui.theme import mixed, theme
from desktop.ui.type_scale import Role, font


def colour_index(identity: UUID) -> int:
    """Which of the eight avatar colours; from the random part of the id."""
    return identity.int % 8


def paint_avatar(painter: QPainter, rect: QRectF, name: str, identity: UUID) -> None:
    """Paint a square avatar filling `rect`; without initials, the outline of a person."""
    dpr = painter.device().devicePixelRatioF()
    tokens = theme().tokens
    picture = _avatar(
        initials(name),
        tokens.avatars[colour_index(identity)].rgba(),
        tokens.on_avatar.rgba(),
        size=int(rect.width()),
        dpr=dpr,
        family=font(Role.HEADING).family(),
    )
    painter.drawPixmap(rect.topLeft(), picture)


@lru_cache(maxsize=512)
def _avatar(letters: str, ground: int, ink: int, *, size: int, dpr: float, family: str) -> QPixmap:
    made = QPixmap(round(size * dpr), round(size * dpr))
    made.setDevicePixelRatio(dpr)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.TextAntialiasing)
    rect = QRectF(0, 0, size, size)
    colour = QColor.fromRgba(ground)
    shade = QLinearGradient(rect.topLeft(), rect.bottomLeft())
    shade.setColorAt(0, mixed(colour, QColor(Qt.GlobalColor.white), 0.10))
    shade.setColorAt(1, colour)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(shade)
    painter.drawEllipse(rect)
    if letters:
        written = QFont(font(Role.HEADING))
        written.setFamily(family)
        written.setPixelSize(max(8, round(size * (0.38 if len(letters) > 1 else 0.44))))
        painter.setFont(written)
        painter.setPen(QColor.fromRgba(ink))
        painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, letters)
    else:
        inset = size * 0.2
        icon.paint(painter, "person", QColor.fromRgba(ink), rect.adjusted(inset, inset, -inset, -inset))
    painter.end()
    return made


class Avatar(QWidget):
    """An avatar as a widget, for headers. Decorative: the name stands beside it."""

    def __init__(self, size: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = ""
        self._identity = UUID(int=0)
        self.setFixedSize(size, size)

    def show_person(self, name: str, identity: UUID) -> None:
        self._name, self._identity = name, identity
        self.update()

    def sizeHint(self) -> QSize:
        return self.size()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        painter = QPainter(self)
        paint_avatar(painter, QRectF(self.rect()), self._name, self._identity)
        painter.end()
