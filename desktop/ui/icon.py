"""Icons: our own SVG outlines, tinted with a token when painted.

`pixmap` caches by (name, colour, size, device pixel ratio). A `QIcon` from `icon` reads its token at paint
time, so it needs no refresh after a theme change.
"""

from functools import lru_cache
from pathlib import Path
from typing import Final

from PySide6.QtCore import QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QIcon, QIconEngine, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from desktop.ui.theme import theme

_FOLDER: Final = Path(__file__).with_name("icons")


def pixmap(name: str, colour: QColor, size: int, dpr: float) -> QPixmap:
    """The icon in one colour, `size` logical pixels square. Raises FileNotFoundError for an unknown name."""
    return _tinted(name, colour.rgba(), size, dpr)


def paint(painter: QPainter, name: str, colour: QColor, rect: QRectF) -> None:
    """Paint the icon centred in `rect`, at the largest whole size that fits."""
    size = int(min(rect.width(), rect.height()))
    dpr = painter.device().devicePixelRatioF()
    centre = rect.center()
    painter.drawPixmap(
        QPointF(round(centre.x() - size / 2), round(centre.y() - size / 2)),
        pixmap(name, colour, size, dpr),
    )


def icon(name: str, colour: str = "icon") -> QIcon:
    """A `QIcon` for stock widgets and menus; `colour` names the colour."""
    return QIcon(_TokenIcon(name, colour))


@lru_cache(maxsize=32)
def logo(size: int, dpr: float) -> QPixmap:
    """The product's mark, in its own colours."""
    return _render("logo", size, dpr)


def application_icon() -> QIcon:
    made = QIcon()
    for size in (16, 24, 32, 48, 64, 128, 256):
        made.addPixmap(logo(size, 1.0))
    return made


@lru_cache(maxsize=512)
def _tinted(name: str, rgba: int, size: int, dpr: float) -> QPixmap:
    made = _render(name, size, dpr)
    painter = QPainter(made)
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceIn)
    painter.fillRect(made.rect(), QColor.fromRgba(rgba))
    painter.end()
    return made


def _render(name: str, size: int, dpr: float) -> QPixmap:
    renderer = _renderer(name)
    made = QPixmap(round(size * dpr), round(size * dpr))
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    renderer.render(painter)
    painter.end()
    made.setDevicePixelRatio(dpr)
    return made


@lru_cache(maxsize=64)
def _renderer(name: str) -> QSvgRenderer:
    return QSvgRenderer((_FOLDER / f"{name}.svg").read_bytes())


class _TokenIcon(QIconEngine):
    def __init__(self, name: str, colour: str) -> None:
        super().__init__()
        self._name = name
        self._token = colour

    def paint(self, painter: QPainter, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:  # noqa: ARG002 - Qt's signature
        tokens = theme().tokens
        colour = tokens.text_disabled if mode is QIcon.Mode.Disabled else getattr(tokens, self._token)
        paint(painter, self._name, colour, QRectF(rect))

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        made = QPixmap(size)
        made.fill(Qt.GlobalColor.transparent)
        painter = QPainter(made)
        self.paint(painter, QRect(0, 0, size.width(), size.height()), mode, state)
        painter.end()
        return made

    def clone(self) -> QIconEngine:
        return _TokenIcon(self._name, self._token)
