"""What all messages share: the bubble, who wrote it, when, its ticks, and the notice under it."""

from datetime import datetime
from typing import ClassVar, NamedTuple
from uuid import UUID

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPainterPath, QPen

from desktop.cache.rows import MessageRow
from desktop.timeline.elements.base import Element
from desktop.timeline.elements.notice_box import NoticeBox
from desktop.timeline.elements.text_block import TextBlock
from desktop.timeline.hit import Hit, Target
from desktop.timeline.metrics import Metrics
from desktop.timeline.notices import Notice, notice_for
from desktop.timeline.painting import PaintContext, bubble_path
from desktop.ui.avatar import colour_index
from desktop.ui.ticks import Tick, paint_tick, tick_of_row
from desktop.ui.times import clock
from desktop.ui.tokens import Tokens
from shared.wire.inbox import Direction


class Placement(NamedTuple):
    """How a message stands among its neighbours; `author` is the name to show over it, or ""."""

    joined_above: bool = False
    joined_below: bool = False
    author: str = ""


class Speakers(NamedTuple):
    """Names for screen readers and copies."""

    contact: str
    me: UUID | None


class Scene(NamedTuple):
    """What elements are made for: who speaks, in which colours and sizes, and when it is."""

    speakers: Speakers
    tokens: Tokens
    metrics: Metrics
    now: datetime


class MessageElement(Element):
    """A bubble with a text block in it. Subclasses make the block (`_make_body`) and may add to it."""

    __slots__ = (
        "_body",
        "_bubble",
        "_contact",
        "_has_meta_line",
        "_laid_for",
        "_me",
        "_meta_rect",
        "_notice_box",
        "_on_right",
        "_path",
        "_text_at",
        "_text_width",
        "_time",
        "_tokens",
        "due",
        "notice",
        "placement",
        "row",
    )

    indent: ClassVar[bool] = False
    """Whether the text stands beside an icon."""

    def __init__(
        self,
        row: MessageRow,
        placement: Placement,
        scene: Scene,
    ) -> None:
        super().__init__(row.key)
        self.row = row
        self.placement = placement
        self._contact, self._me = scene.speakers
        self._tokens = scene.tokens
        self._time = clock(row.sent_at)
        self.notice = Notice()
        self.due: datetime | None = None
        self._notice_box: NoticeBox | None = None
        self._body = self._make_body(scene.metrics)
        self._bubble = QRectF()
        self._path: QPainterPath | None = None
        self._text_at = QPointF()
        self._text_width = 0
        self._meta_rect = QRectF()
        self._on_right = False
        self._has_meta_line = False
        self._laid_for: tuple[int, Metrics] | None = None
        self.set_state(row, placement, scene)

    # --- state ------------------------------------------------------------------------------------

    def set_state(self, row: MessageRow, placement: Placement, scene: Scene) -> None:
        """Show a newer state of the message. Lay out again afterwards (`resize`)."""
        self._laid_for = None
        if row.content != self.row.content:
            self.row = row
            self._body = self._make_body(scene.metrics)
        self.row = row
        self.placement = placement
        self._time = clock(row.sent_at)
        notice = notice_for(row, scene.now) if self.is_outbound else Notice()
        self.due = notice.due
        if notice != self.notice:
            self.notice = notice
            self._notice_box = NoticeBox(notice, scene.metrics) if notice.words else None

    @property
    def is_outbound(self) -> bool:
        return self.row.direction is Direction.OUTBOUND

    # --- layout -----------------------------------------------------------------------------------

    def resize(self, width: int, metrics: Metrics) -> int:
        if self._laid_for == (width, metrics):
            return self.height
        self._laid_for = (width, metrics)
        placement = self.placement
        text_limit = metrics.bubble_limit(width) - 2 * metrics.pad_x
        indent = self._indent(metrics)
        self._body.set_width(text_limit - indent)
        meta = self._meta_width(metrics)
        spacing = metrics.pad_x
        # The time stands beside the last line where there is room, else on a line of its own.
        beside = self._body.last_line_width + indent + spacing + meta
        self._has_meta_line = self._body.right_to_left != metrics.mirrored or beside > text_limit
        content = self._body.used_width + indent
        content = max(content, meta if self._has_meta_line else beside)
        if placement.author:
            name = QFontMetricsF(metrics.name).horizontalAdvance(placement.author)
            content = max(content, min(text_limit, round(name) + 1))
        bubble_width = content + 2 * metrics.pad_x
        bubble_height = self._body_top(metrics) + self._body.height + metrics.pad_bottom
        if self._has_meta_line:
            bubble_height += metrics.meta_height
        self._on_right = self.is_outbound != metrics.mirrored
        left = metrics.column_left(width)
        right = width - left
        x = right - bubble_width if self._on_right else left
        top = metrics.gap_in_group if placement.joined_above else metrics.gap_between_groups
        bubble = QRectF(x, top, bubble_width, bubble_height)
        self._bubble = bubble
        self._path = None
        text_x = x + metrics.pad_x + (0 if metrics.mirrored else indent)
        self._text_at = QPointF(text_x, top + self._body_top(metrics))
        self._text_width = bubble_width - 2 * metrics.pad_x - indent
        meta_x = x + metrics.pad_x - 2 if metrics.mirrored else bubble.right() - metrics.pad_x + 3 - meta
        meta_y = bubble.bottom() - metrics.pad_bottom + 2 - metrics.meta_height
        self._meta_rect = QRectF(round(meta_x), round(meta_y), meta, metrics.meta_height)
        self.height = top + bubble_height
        if self._notice_box is not None:
            self.height += metrics.gap_in_group + self._notice_box.place(
                bubble,
                metrics.bubble_limit(width),
                self.height + metrics.gap_in_group,
                metrics,
                on_right=self._on_right,
            )
        return self.height

    def _indent(self, metrics: Metrics) -> int:
        return round(metrics.body.pixelSize() * 2.1) if self.indent else 0

    def _meta_width(self, metrics: Metrics) -> int:
        width = metrics.time_width(self._time)
        if tick_of_row(self.row) is not Tick.NONE:
            width += metrics.tick_width + 3
        return round(width) + 1

    def _body_top(self, metrics: Metrics) -> int:
        return metrics.pad_top + (metrics.name_height if self.placement.author else 0)

    # --- painting ---------------------------------------------------------------------------------

    def paint(self, painter: QPainter, context: PaintContext, selected: tuple[int, int] | None) -> None:
        tokens, metrics = context.tokens, context.metrics
        path = self._outline(metrics)
        bubble = self._bubble
        # A line of shade under the bubble: a whole shadow would paint each shape twice.
        width = bubble.width() - 2 * metrics.radius
        shade = QRectF(bubble.left() + metrics.radius, bubble.bottom(), width, 1)
        painter.fillRect(shade, tokens.bubble_shadow)
        painter.setPen(QPen(tokens.bubble_focus, 2) if self.key == context.focused_key else Qt.PenStyle.NoPen)
        painter.setBrush(tokens.bubble_out if self.is_outbound else tokens.bubble_in)
        painter.drawPath(path)
        if self.placement.author:
            self._paint_author(painter, tokens, metrics)
        self._paint_body(painter, context, selected)
        self._paint_meta(painter, tokens, metrics)
        if self._notice_box is not None:
            hovered = context.hovered_action if self.key == context.hovered_key else None
            self._notice_box.paint(painter, tokens, metrics, hovered)

    def _outline(self, metrics: Metrics) -> QPainterPath:
        """Made when first painted: most rows of a window never come on screen."""
        if self._path is None:
            self._path = bubble_path(
                self._bubble,
                metrics,
                on_right=self._on_right,
                joined_above=self.placement.joined_above,
                joined_below=self.placement.joined_below,
            )
        return self._path

    def _paint_author(self, painter: QPainter, tokens: Tokens, metrics: Metrics) -> None:
        painter.setFont(metrics.name)
        painter.setPen(tokens.names[colour_index(self.row.author_id or UUID(int=0))])
        rect = QRectF(
            self._bubble.left() + metrics.pad_x,
            self._bubble.top() + metrics.pad_top - 1,
            self._bubble.width() - 2 * metrics.pad_x,
            metrics.name_height,
        )
        name = QFontMetricsF(metrics.name).elidedText(
            self.placement.author, Qt.TextElideMode.ElideRight, rect.width() + 1
        )
        side = Qt.AlignmentFlag.AlignRight if metrics.mirrored else Qt.AlignmentFlag.AlignLeft
        painter.drawText(rect, side | Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignAbsolute, name)

    def _paint_body(self, painter: QPainter, context: PaintContext, selected: tuple[int, int] | None) -> None:
        tokens = context.tokens
        ink = self._ink(tokens)
        painter.setPen(ink)
        self._body.draw(
            painter,
            self._text_at,
            self._text_width,
            selected=selected,
            selection=(tokens.bubble_selection, ink),
            code_ground=tokens.bubble_code,
        )

    def _ink(self, tokens: Tokens) -> QColor:
        return tokens.bubble_out_text if self.is_outbound else tokens.bubble_in_text

    def _paint_meta(self, painter: QPainter, tokens: Tokens, metrics: Metrics) -> None:
        ink = tokens.bubble_out_meta if self.is_outbound else tokens.bubble_in_meta
        rect = self._meta_rect
        painter.setFont(metrics.meta)
        painter.setPen(ink)
        painter.drawStaticText(rect.topLeft(), metrics.time_text(self._time))
        tick = tick_of_row(self.row)
        if tick is not Tick.NONE:
            at = QPointF(
                rect.right() - metrics.tick_width,
                rect.top() + round((metrics.meta_height - metrics.tick_height) / 2),
            )
            paint_tick(painter, tick, at, metrics.tick_height, tokens=tokens, ink=tokens.tick)

    # --- hits and text ----------------------------------------------------------------------------

    def hit(self, point: QPointF) -> Hit:
        if self._notice_box is not None:
            action = self._notice_box.action_at(point)
            if action is not None:
                return Hit(Target.ACTION, self._body.length, action=action)
        inside = point - self._text_at
        width = self._text_width
        position = self._body.position_at(inside, width)
        if not self._bubble.contains(point):
            return Hit(Target.NOTHING, position)
        if self._meta_rect.contains(point):
            return Hit(Target.META, position)
        link = self._body.link_at(inside, width)
        if link:
            return Hit(Target.LINK, position, link)
        over = self._body.is_over_text(inside, width)
        return Hit(Target.TEXT if over else Target.BUBBLE, position)

    def text_length(self) -> int:
        return self._body.length

    def selected_text(self, start: int, end: int) -> str:
        return self._body.text(start, end)

    def word_at(self, position: int) -> tuple[int, int]:
        return self._body.word_at(position)

    def speaker(self) -> str:
        if not self.is_outbound:
            return self._contact
        if self.row.author_id is None or self.row.author_id == self._me:
            return "You"
        return self.row.author_name or "A colleague"

    def accessible_text(self) -> str:
        """As 'Sara, 10:42, Where is my parcel?, delivered'."""
        parts = [
            self.speaker(),
            self._time,
            self._spoken_body(),
            tick_of_row(self.row).value,
            self.notice.words,
        ]
        return ", ".join(part for part in parts if part)

    def accessible_rect(self, width: int) -> QRectF:  # noqa: ARG002 - the bubble knows its place
        return self._bubble

    def bubble_rect(self) -> QRectF:
        return self._bubble

    def _spoken_body(self) -> str:
        return self._body.text(0, self._body.length)

    def _make_body(self, metrics: Metrics) -> TextBlock:
        raise NotImplementedError
