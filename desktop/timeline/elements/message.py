"""The kinds of messages. A kind without a class of its own is shown as unknown, never left out."""

from PySide6.QtCore import QRectF
from PySide6.QtGui import QPainter

from desktop.cache.rows import MessageRow
from desktop.timeline.elements.bubble import MessageElement, Placement, Scene
from desktop.timeline.elements.text_block import TextBlock
from desktop.timeline.marks import Marked, Span, Style, parse
from desktop.timeline.metrics import Metrics
from desktop.timeline.painting import PaintContext
from desktop.ui import icon
from desktop.ui.text import big_emoji_count
from shared.content import TextContent, summary


class TextElement(MessageElement):
    """A text message; one to three emoji alone are shown large."""

    __slots__ = ()

    def _make_body(self, metrics: Metrics) -> TextBlock:
        body = self.row.content.body if isinstance(self.row.content, TextContent) else ""
        body = body.replace("\r\n", "\n").strip("\n")
        link = self._tokens.bubble_out_link if self.is_outbound else self._tokens.bubble_in_link
        large = big_emoji_count(body)
        if large:
            return TextBlock(Marked(body.strip(), ()), metrics.emoji[large - 1], metrics.code, link, None)
        return TextBlock(parse(body), metrics.body, metrics.code, link, metrics.line_gap)


class UnknownElement(MessageElement):
    """A message of a type this version cannot show: it says so, and names the type."""

    __slots__ = ()
    indent = True

    def _make_body(self, metrics: Metrics) -> TextBlock:
        words = f"{summary(self.row.content)}\nThis version cannot show it. It is on the phone."
        head = words.index("\n")
        link = self._tokens.bubble_in_link
        return TextBlock(
            Marked(words, (Span(0, head, Style.BOLD),)), metrics.notice, metrics.code, link, metrics.line_gap
        )

    def _paint_body(self, painter: QPainter, context: PaintContext, selected: tuple[int, int] | None) -> None:
        super()._paint_body(painter, context, selected)
        metrics, tokens = context.metrics, context.tokens
        size = round(metrics.body.pixelSize() * 1.6)
        bubble = self.bubble_rect()
        x = bubble.right() - metrics.pad_x - size if metrics.mirrored else bubble.left() + metrics.pad_x
        colour = tokens.bubble_out_meta if self.is_outbound else tokens.bubble_in_meta
        icon.paint(painter, "question", colour, QRectF(x, self._text_at.y(), size, size))


def make_message(row: MessageRow, placement: Placement, scene: Scene) -> MessageElement:
    """The element for a row, by the type of its content."""
    kind = TextElement if isinstance(row.content, TextContent) else UnknownElement
    return kind(row, placement, scene)
