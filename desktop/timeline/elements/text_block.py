"""Styled text with wrapping, hit-testing and selection, on `QTextLayout`."""

from bisect import bisect_right
from math import ceil
from typing import Final

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QPainter,
    QTextCharFormat,
    QTextLayout,
    QTextLine,
    QTextOption,
)

from desktop.timeline.marks import Marked, Span, Style
from desktop.ui.text import Utf16Map, is_right_to_left, utf16_length

_LINE_BREAK: Final = "\u2028"
_CODE_RADIUS: Final = 4.0
_BLOCK_PAD: Final = 4
_TALL: Final = 1.3


class TextBlock:
    """Text laid out for a width. Positions are UTF-16 units, as Qt counts them.

    `used_width` is what the longest line needs, `last_line_width` what the last one needs. `gap` is added
    between lines; None leaves each line its own height (for large emoji).
    """

    __slots__ = (
        "_code",
        "_gap",
        "_laid_width",
        "_layout",
        "_links",
        "_natural",
        "_pitch",
        "_text",
        "_tops",
        "_wrapped",
        "height",
        "last_line_width",
        "length",
        "right_to_left",
        "used_width",
    )

    def __init__(
        self, marked: Marked, font: QFont, code_font: QFont, link_colour: QColor, gap: float | None
    ) -> None:
        self._text = marked.text
        self.length = utf16_length(marked.text)
        self._gap = gap or 0.0
        self._natural = gap is None
        self._pitch = QFontMetricsF(font).height()
        self.right_to_left = is_right_to_left(marked.text)
        self._layout = QTextLayout(marked.text.replace("\n", _LINE_BREAK), font)
        self._layout.setCacheEnabled(True)
        # A text layout does not mirror "leading" by itself.
        option = QTextOption(
            Qt.AlignmentFlag.AlignRight if self.right_to_left else Qt.AlignmentFlag.AlignLeft
        )
        option.setWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        option.setTextDirection(
            Qt.LayoutDirection.RightToLeft if self.right_to_left else Qt.LayoutDirection.LeftToRight
        )
        self._layout.setTextOption(option)
        self._links: list[tuple[int, int, str]] = []
        self._code: list[tuple[int, int, bool]] = []
        if marked.spans:
            self._take_spans(marked, code_font, link_colour)
        self._laid_width = 0
        self._wrapped = True
        self._tops: list[float] = []
        self.height = 0
        self.used_width = 0
        self.last_line_width = 0

    def set_width(self, width: int) -> None:
        """Wrap at `width`; does nothing if the lines cannot change by it."""
        if width == self._laid_width or (not self._wrapped and self.used_width <= width):
            return
        layout = self._layout
        top = used = last = 0.0
        self._tops = []
        layout.beginLayout()
        while (line := layout.createLine()).isValid():
            line.setLineWidth(width)
            if self._begins_block(line):
                top += _BLOCK_PAD
            # Lines stand at one distance, whatever fonts are in them; only tall scripts get more room.
            pitch = self._pitch if line.height() < self._pitch * _TALL else self._pitch * _TALL
            pitch = max(pitch, line.height()) if self._natural else pitch
            line.setPosition(QPointF(0, top + (pitch - line.height()) / 2))
            self._tops.append(top)
            last = line.naturalTextWidth()
            used = max(used, last)
            top += ceil(pitch) + self._gap
            if self._ends_block(line):
                top += _BLOCK_PAD
        layout.endLayout()
        self._laid_width = width
        self._wrapped = len(self._tops) > self._text.count("\n") + 1
        self.height = int(top - self._gap)
        self.used_width = ceil(used)
        self.last_line_width = ceil(last)

    def draw(
        self,
        painter: QPainter,
        at: QPointF,
        box_width: int,
        *,
        selected: tuple[int, int] | None,
        selection: tuple[QColor, QColor],
        code_ground: QColor,
    ) -> None:
        """Draw in a box of `box_width`, to whose right side right-to-left text keeps.

        `selection` is (background, text) of the selected part.
        """
        origin = QPointF(at.x() + self._shift(box_width), at.y())
        if self._code:
            pen = painter.pen()
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(code_ground)
            for rect in self._code_rects(box_width):
                painter.drawRoundedRect(rect.translated(at), _CODE_RADIUS, _CODE_RADIUS)
            painter.setPen(pen)
        ranges = []
        if selected is not None and selected[0] < selected[1]:
            marked = QTextLayout.FormatRange()
            marked.start, marked.length = selected[0], selected[1] - selected[0]
            marked.format.setBackground(selection[0])
            marked.format.setForeground(selection[1])
            ranges.append(marked)
        self._layout.draw(painter, origin, ranges)

    def position_at(self, point: QPointF, box_width: int) -> int:
        """The place between two characters nearest to `point`."""
        if not self._tops or point.y() < 0:
            return 0
        if point.y() >= self.height:
            return self.length
        line = self._line_at(point.y())
        return line.xToCursor(
            point.x() - self._shift(box_width), QTextLine.CursorPosition.CursorBetweenCharacters
        )

    def is_over_text(self, point: QPointF, box_width: int) -> bool:
        if not self._tops or not 0 <= point.y() < self.height:
            return False
        rect = self._line_at(point.y()).naturalTextRect()
        return rect.left() <= point.x() - self._shift(box_width) <= rect.right()

    def link_at(self, point: QPointF, box_width: int) -> str:
        """The address of the link under `point`, or ""."""
        if not self._links or not self.is_over_text(point, box_width):
            return ""
        line = self._line_at(point.y())
        position = line.xToCursor(
            point.x() - self._shift(box_width), QTextLine.CursorPosition.CursorOnCharacter
        )
        return next((target for start, end, target in self._links if start <= position < end), "")

    def text(self, start: int, end: int) -> str:
        """A part, in logical order, with its line breaks."""
        if start <= 0 and end >= self.length:
            return self._text
        positions = Utf16Map(self._text)
        return self._text[positions.to_python(start) : positions.to_python(end)]

    def word_at(self, position: int) -> tuple[int, int]:
        """The word around a position; trailing space is no part of it."""
        mode = QTextLayout.CursorMode.SkipWords
        start = self._layout.previousCursorPosition(min(position + 1, self.length), mode)
        end = self._layout.nextCursorPosition(start, mode)
        positions = Utf16Map(self._text)
        word = self._text[positions.to_python(start) : positions.to_python(end)]
        return start, end - utf16_length(word[len(word.rstrip()) :])

    def _take_spans(self, marked: Marked, code_font: QFont, link_colour: QColor) -> None:
        positions = Utf16Map(marked.text)
        formats = []
        for span in marked.spans:
            start, end = positions.to_qt(span.start), positions.to_qt(span.end)
            made = QTextLayout.FormatRange()
            made.start, made.length = start, end - start
            made.format = _format(span, code_font, link_colour)
            formats.append(made)
            if span.style is Style.LINK:
                self._links.append((start, end, span.target))
            elif span.style in {Style.CODE, Style.BLOCK}:
                self._code.append((start, end, span.style is Style.BLOCK))
        self._layout.setFormats(formats)

    def _shift(self, box_width: int) -> int:
        """Lines were laid out in `_laid_width`, and right-to-left ones start at its right end."""
        return box_width - self._laid_width if self.right_to_left else 0

    def _begins_block(self, line: QTextLine) -> bool:
        return any(is_block and start == line.textStart() for start, _, is_block in self._code)

    def _ends_block(self, line: QTextLine) -> bool:
        end_of_line = line.textStart() + line.textLength()
        return any(is_block and line.textStart() < end <= end_of_line for _, end, is_block in self._code)

    def _line_at(self, y: float) -> QTextLine:
        return self._layout.lineAt(max(0, bisect_right(self._tops, y) - 1))

    def _code_rects(self, box_width: int) -> list[QRectF]:
        shift = self._shift(box_width)
        rects = []
        for start, end, is_block in self._code:
            first = self._layout.lineForTextPosition(start).lineNumber()
            last = self._layout.lineForTextPosition(max(start, end - 1)).lineNumber()
            if is_block:
                above, below = self._layout.lineAt(first), self._layout.lineAt(last)
                height = below.y() + below.height() - above.y()
                rects.append(QRectF(-5, above.y() - _BLOCK_PAD, box_width + 10, height + 2 * _BLOCK_PAD))
                continue
            for number in range(first, last + 1):
                line = self._layout.lineAt(number)
                line_end = line.textStart() + line.textLength()
                x1 = _cursor_x(line, max(start, line.textStart()))
                x2 = _cursor_x(line, min(end, line_end))
                left, right = sorted((x1, x2))
                rects.append(QRectF(left - 2 + shift, line.y(), right - left + 4, line.height()))
        return rects


def _cursor_x(line: QTextLine, position: int) -> float:
    # PySide gives the x together with the position that it was clamped to.
    x: tuple[float, int] = line.cursorToX(position)  # type: ignore[assignment] # the stubs say object
    return x[0]


def _format(span: Span, code_font: QFont, link_colour: QColor) -> QTextCharFormat:
    made = QTextCharFormat()
    match span.style:
        case Style.BOLD:
            made.setFontWeight(QFont.Weight.Bold)
        case Style.ITALIC:
            made.setFontItalic(True)
        case Style.STRIKE:
            made.setFontStrikeOut(True)
        case Style.CODE | Style.BLOCK:
            made.setFontFamilies(code_font.families())
            made.setProperty(QTextCharFormat.Property.FontPixelSize, code_font.pixelSize())
            made.setFontFixedPitch(True)
        case Style.LINK:
            made.setForeground(link_colour)
            made.setFontUnderline(True)
    return made
