"""The painted view of a conversation.

It holds elements for the rows of the feed's window and keeps the reader's place through every change: a new
message, a page of older ones, an edit, a new width, another zoom. At the end of the conversation it stays at
the end.
"""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QFocusEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPalette,
    QResizeEvent,
    QShowEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QWidget

from desktop.cache.rows import Edge, MessagePosition, MessageRow
from desktop.timeline import accessible, keys, menu
from desktop.timeline.composing import Composer, next_due
from desktop.timeline.elements.base import Element
from desktop.timeline.elements.bubble import MessageElement, Scene
from desktop.timeline.feed import TimelineFeed
from desktop.timeline.hit import NOTHING, Action, Hit
from desktop.timeline.metrics import Metrics, make_metrics
from desktop.timeline.overlays import DateChip, JumpButton
from desktop.timeline.painting import PaintContext, paint_background
from desktop.timeline.pointer import Pointer
from desktop.timeline.selection import Place, Selection, copied_text, part_of
from desktop.timeline.stack import Anchor, Stack
from desktop.timeline.window import TRIM_ABOVE
from desktop.ui.theme import theme
from shared.wire.inbox import Direction

_SCREENS_AHEAD: Final = 2
_BOTTOM_PAD: Final = 12
_UNREAD_AT: Final = 0.2
_LINE: Final = 24
_DUE_MIN_MS: Final = 200


class MessageView(QAbstractScrollArea):
    """Give it a feed. Links and typed text are for the owner to handle."""

    link_activated = Signal(str)
    typed = Signal(str)
    """Printable text typed while the view has the focus; it belongs into the composer."""

    painted = Signal()
    """A frame was painted; for measurements and automation."""

    def __init__(self, feed: TimelineFeed, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.feed = feed
        self.stack = Stack()
        self.selection = Selection()
        self._composer = Composer()
        self._zoom = 1.0
        self._metrics = make_metrics(self._zoom, mirrored=self.isRightToLeft())
        self._at_end = True
        self._seen: MessagePosition | None = None
        self._focused: UUID | None = None
        self._restoring = False
        self._due = QTimer(self, singleShot=True)
        self._due.timeout.connect(self.refresh)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Messages")
        self.viewport().setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.viewport().setMouseTracking(True)
        self.verticalScrollBar().setSingleStep(_LINE)
        self.verticalScrollBar().valueChanged.connect(self._on_scrolled)
        self._pointer = Pointer(self)
        self._chip = DateChip(self.viewport())
        self._jump = JumpButton(self.viewport())
        self._jump.clicked.connect(self.jump_to_newest)
        feed.opened.connect(self._on_opened)
        feed.changed.connect(self.refresh)
        theme().changed.connect(self._on_theme_changed)
        accessible.install()
        self._colour_edges()
        self._on_opened()

    # --- what others may ask ----------------------------------------------------------------------

    @property
    def metrics(self) -> Metrics:
        return self._metrics

    @property
    def zoom(self) -> float:
        return self._zoom

    def set_zoom(self, zoom: float) -> None:
        if zoom != self._zoom:
            self._zoom = zoom
            self._forget_layouts()

    @property
    def is_at_end(self) -> bool:
        """Whether the reader sees the end of the conversation."""
        return self._at_end

    @property
    def focused_key(self) -> UUID | None:
        """The message that the keyboard is on."""
        return self._focused

    def focused_element(self) -> MessageElement | None:
        index = self.stack.index_of(self._focused) if self._focused else None
        element = self.stack.elements[index] if index is not None else None
        return element if isinstance(element, MessageElement) else None

    def message_elements(self) -> list[MessageElement]:
        return [element for element in self.stack.elements if isinstance(element, MessageElement)]

    def focus_message(self, key: UUID | None) -> None:
        """Put the keyboard on a message and bring it on screen."""
        self._focused = key
        index = self.stack.index_of(key) if key else None
        if index is not None:
            self._bring_on_screen(self.stack.tops[index], self.stack.elements[index].height)
            accessible.focus_moved(self, index)
        self.viewport().update()

    def jump_to_newest(self) -> None:
        if self.feed.window.at_end:
            self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())
        else:
            self.feed.want_newest()

    def copy_text(self) -> str:
        """What Copy gives now: the selection, else the focused message."""
        text = copied_text(self.stack.elements, self.selection.bounds(self.stack))
        if text:
            return text
        element = self.focused_element()
        return element.selected_text(0, element.text_length()) if element is not None else ""

    def open_focused_menu(self) -> bool:
        """Show what can be done with the focused message; False if none is."""
        element = self.focused_element()
        index = self.stack.index_of(element.key) if element is not None else None
        if element is None or index is None:
            return False
        bubble = element.bubble_rect().translated(0, self.rect_of(index).top())
        menu.popup(self, element, NOTHING, self.viewport().mapToGlobal(bubble.center().toPoint()))
        return True

    def select_all(self) -> None:
        """Select the text of every loaded message."""
        messages = self.message_elements()
        if messages:
            last = messages[-1]
            self.selection.select(Place(messages[0].key, 0), Place(last.key, last.text_length()))
            self.viewport().update()

    def act(self, row: MessageRow, action: Action) -> None:
        self.feed.act(row, action)

    # --- geometry ---------------------------------------------------------------------------------

    def content_top(self) -> int:
        """Where content position 0 is in the viewport. A short conversation stands at the bottom."""
        spare = self.viewport().height() - self.stack.height - _BOTTOM_PAD
        return max(0, spare) - self.verticalScrollBar().value()

    def rect_of(self, index: int) -> QRectF:
        """An element's rectangle in the viewport."""
        top = self.content_top() + self.stack.tops[index]
        return QRectF(0, top, self.viewport().width(), self.stack.elements[index].height)

    def visible_indices(self) -> range:
        top = -self.content_top()
        return self.stack.visible(top, top + self.viewport().height())

    def hit_test(self, point: QPointF) -> tuple[Element | None, Hit]:
        """What is at a point of the viewport; the nearest element where there is none."""
        index = self.stack.index_at(point.y() - self.content_top())
        if index is None:
            return None, NOTHING
        element = self.stack.elements[index]
        inside = QPointF(point.x(), point.y() - self.content_top() - self.stack.tops[index])
        return element, element.hit(inside)

    # --- changes ----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the window's rows as they are now, keeping the reader's place."""
        anchor = self._anchor()
        self._trim(anchor)
        self._compose()
        self._restore(anchor)

    def _on_opened(self) -> None:
        self.selection.clear()
        self._focused = None
        self._seen = None
        self._at_end = True
        self._compose()
        index = self.stack.index_of("unread")
        if index is None:
            self._restore(Anchor(at_end=True))
        else:
            top = self.stack.tops[index] - round(self.viewport().height() * _UNREAD_AT)
            self._restore(Anchor(at_end=False, places=(("unread", self.stack.tops[index] - top),)))
        accessible.rows_replaced(self)

    def _compose(self) -> None:
        now = datetime.now(UTC)
        scene = Scene(self.feed.speakers, theme().tokens, self._metrics, now)
        elements = self._composer.compose(self.feed.window, self.feed.unread_from, scene)
        self.stack.replace(elements, self.viewport().width(), self._metrics)
        due = next_due(elements)
        if due is None:
            self._due.stop()
        else:
            self._due.start(max(_DUE_MIN_MS, int((due - now).total_seconds() * 1000) + 1))

    def _anchor(self) -> Anchor:
        return self.stack.anchor(-self.content_top(), self.viewport().height(), at_end=self._at_end)

    def _restore(self, anchor: Anchor) -> None:
        bar = self.verticalScrollBar()
        view_height = self.viewport().height()
        maximum = max(0, self.stack.height + _BOTTOM_PAD - view_height)
        self._restoring = True
        bar.setRange(0, maximum)
        bar.setPageStep(view_height)
        if anchor.at_end:
            bar.setValue(maximum)
        else:
            wanted = self.stack.scroll_for(anchor)
            bar.setValue(bar.value() if wanted is None else wanted)
        self._restoring = False
        self._after_move()

    def _trim(self, anchor: Anchor) -> None:
        """Forget the rows farthest from the reader once there are many; not while text is selected."""
        window = self.feed.window
        if len(window.rows) <= TRIM_ABOVE or not self.selection.is_empty:
            return
        held = next((place[0] for place in anchor.places if isinstance(place[0], UUID)), None)
        index = window.index_of(held) if held is not None else None
        if anchor.at_end or (index is not None and index > len(window.rows) // 2):
            window.trim_older(TRIM_ABOVE)
        else:
            window.trim_newer(TRIM_ABOVE)

    def _on_theme_changed(self) -> None:
        self._colour_edges()
        self._forget_layouts()

    def _colour_edges(self) -> None:
        """The scroll bar stands on the chat's ground."""
        colours = QPalette(self.palette())
        colours.setColor(QPalette.ColorRole.Window, theme().tokens.chat_background)
        self.setPalette(colours)

    def _forget_layouts(self) -> None:
        """Lay everything out anew: another zoom, direction or theme."""
        anchor = self._anchor()
        self._composer.cache.clear()
        self._metrics = make_metrics(self._zoom, mirrored=self.isRightToLeft())
        self._compose()
        self._restore(anchor)

    def _on_scrolled(self) -> None:
        if not self._restoring:
            self._chip.wake()
            self._after_move()

    def _after_move(self) -> None:
        bar = self.verticalScrollBar()
        window = self.feed.window
        self._at_end = window.at_end and bar.value() >= bar.maximum()
        self.viewport().update()
        self._show_day()
        self._note_seen()
        self._pointer.refresh_hover()
        if not self.isVisible():
            return
        ahead = _SCREENS_AHEAD * self.viewport().height()
        if bar.value() < ahead and window.older is not Edge.END:
            self.feed.want_older()
        if bar.maximum() - bar.value() < ahead and not window.at_end:
            self.feed.want_newer()

    def _show_day(self) -> None:
        """The chip at the top names the day of the first message on screen."""
        visible = self.visible_indices()
        first = next(
            (self.stack.elements[i] for i in visible if isinstance(self.stack.elements[i], MessageElement)),
            None,
        )
        self._chip.show_day_of(
            first.row.sent_at if isinstance(first, MessageElement) else None, datetime.now(UTC)
        )
        self._chip.place(self.viewport().width(), self._metrics)
        # Not twice: where the divider of that day is itself near the top, the chip stays away.
        near_top = self.rect_of(visible[0]).top() >= -self._metrics.chip_height if visible else True
        self._chip.set_redundant(
            near_top and bool(visible) and not isinstance(self.stack.elements[visible[0]], MessageElement)
        )

    def _note_seen(self) -> None:
        """Tell the feed the newest message on screen, and the button how many came after it."""
        last_seen: MessageRow | None = None
        bottom = self.viewport().height()
        for index in reversed(self.visible_indices()):
            element = self.stack.elements[index]
            if isinstance(element, MessageElement) and self.rect_of(index).bottom() <= bottom + _BOTTOM_PAD:
                last_seen = element.row
                break
        if last_seen is not None and (self._seen is None or last_seen.position > self._seen):
            self._seen = last_seen.position
            if self.isVisible():
                self.feed.seen(last_seen)
        waiting = 0
        if self._seen is not None:
            for row in reversed(self.feed.window.rows):
                if row.position <= self._seen:
                    break
                waiting += row.direction is Direction.INBOUND
        self._jump.show_count(waiting, shown=not self._at_end and bool(self.stack.elements))

    def _bring_on_screen(self, top: int, height: int) -> None:
        bar = self.verticalScrollBar()
        view_height = self.viewport().height()
        if top < bar.value():
            bar.setValue(top - _LINE)
        elif top + height > bar.value() + view_height:
            bar.setValue(
                min(top - _LINE, top + height - view_height + _LINE) if height < view_height else top
            )

    # --- Qt events --------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        tokens = theme().tokens
        painter = QPainter(self.viewport())
        clip = QRectF(event.rect())
        painter.setClipRect(clip)
        paint_background(painter, clip, tokens, self.devicePixelRatioF())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        top = self.content_top()
        bounds = self.selection.bounds(self.stack)
        hovered, hit = self._pointer.hovered
        context = PaintContext(
            tokens=tokens,
            metrics=self._metrics,
            clip=clip,
            focused_key=self._focused if self.hasFocus() else None,
            hovered_key=hovered.row.key if isinstance(hovered, MessageElement) else None,
            hovered_action=hit.action,
        )
        for index in self.stack.visible(clip.top() - top, clip.bottom() - top):
            element = self.stack.elements[index]
            painter.save()
            painter.translate(0, top + self.stack.tops[index])
            element.paint(painter, context, part_of(bounds, index, element))
            painter.restore()
        painter.end()
        self.painted.emit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        anchor = self.stack.anchor(
            -self._content_top_before(event), event.oldSize().height(), at_end=self._at_end
        )
        if event.size().width() != event.oldSize().width():
            self.stack.lay_out(event.size().width(), self._metrics)
        self._restore(anchor)
        self._jump.place(self.viewport().size(), mirrored=self._metrics.mirrored)

    def _content_top_before(self, event: QResizeEvent) -> int:
        spare = event.oldSize().height() - self.stack.height - _BOTTOM_PAD
        return max(0, spare) - self.verticalScrollBar().value()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in {QEvent.Type.LayoutDirectionChange, QEvent.Type.FontChange}:
            self._forget_layouts()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._after_move()

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        """Painting follows in `_on_scrolled`; the default would blit widgets over the fixed background."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        pixels = event.pixelDelta().y()
        if pixels:
            self.verticalScrollBar().setValue(self.verticalScrollBar().value() - pixels)
            event.accept()
        else:
            super().wheelEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._pointer.press(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._pointer.move(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._pointer.release(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self._pointer.double_click(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        if event.reason() is QContextMenuEvent.Reason.Keyboard:
            self.open_focused_menu()
            return
        found, hit = self.hit_test(QPointF(self.viewport().mapFrom(self, event.pos())))
        menu.popup(self, found, hit, event.globalPos())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not keys.handle(self, event):
            super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if (
            event.reason()
            in {
                Qt.FocusReason.TabFocusReason,
                Qt.FocusReason.BacktabFocusReason,
                Qt.FocusReason.ShortcutFocusReason,
            }
            and self.focused_element() is None
        ):
            messages = [self.stack.elements[i] for i in self.visible_indices()]
            last = next((e for e in reversed(messages) if isinstance(e, MessageElement)), None)
            if last is not None:
                self.focus_message(last.row.key)
        self.viewport().update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.viewport().update()

    def viewportEvent(self, event: QEvent) -> bool:
        if event.type() is QEvent.Type.Leave:
            self._pointer.leave()
        elif event.type() is QEvent.Type.ToolTip:
            self._pointer.tool_tip(event)
            return True
        return super().viewportEvent(event)

    def sizeHint(self) -> QSize:
        return QSize(640, 720)

    def minimumSizeHint(self) -> QSize:
        return QSize(280, 120)
