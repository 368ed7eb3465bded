"""The mouse in the view: hovering, selecting by drag, word by word or whole, links and actions."""

from typing import TYPE_CHECKING, Final, cast

from PySide6.QtCore import QEvent, QPointF, Qt, QTimer
from PySide6.QtGui import QCursor, QGuiApplication, QHelpEvent, QMouseEvent
from PySide6.QtWidgets import QApplication, QToolTip

from desktop.timeline.elements.base import Element
from desktop.timeline.elements.bubble import MessageElement
from desktop.timeline.hit import NOTHING, Hit, Target
from desktop.timeline.selection import Place, copied_text
from desktop.ui.ticks import tick_of_row
from desktop.ui.times import moment_words

if TYPE_CHECKING:
    from desktop.timeline.view import MessageView

_SCROLL_MS: Final = 30
_CURSORS: Final = {
    Target.TEXT: Qt.CursorShape.IBeamCursor,
    Target.LINK: Qt.CursorShape.PointingHandCursor,
    Target.ACTION: Qt.CursorShape.PointingHandCursor,
}


class Pointer:
    """Belongs to one view and turns its mouse events into selection, links and actions."""

    def __init__(self, view: "MessageView") -> None:
        self._view = view
        self.hovered: tuple[Element | None, Hit] = (None, NOTHING)
        self._pressed: Hit | None = None
        self._by_words: tuple[Place, Place] | None = None
        self._clicks = 0
        self._last_click_at = QPointF()
        self._last_click_time = 0
        self._auto_scroll = QTimer(view, interval=_SCROLL_MS)
        self._auto_scroll.timeout.connect(self._on_auto_scroll)

    # --- hovering ---------------------------------------------------------------------------------

    def refresh_hover(self) -> None:
        """The content moved under a pointer that did not."""
        viewport = self._view.viewport()
        if viewport.underMouse() and self._pressed is None:
            self._hover(QPointF(viewport.mapFromGlobal(QCursor.pos())))

    def leave(self) -> None:
        self.hovered = (None, NOTHING)
        self._view.viewport().update()

    def tool_tip(self, event: QEvent) -> None:
        """The full times of a message, over its time."""
        help_event = cast("QHelpEvent", event)
        element, hit = self._view.hit_test(QPointF(help_event.pos()))
        if not isinstance(element, MessageElement) or hit.target is not Target.META:
            QToolTip.hideText()
            return
        row = element.row
        words = moment_words(row.sent_at)
        if row.status_at is not None and element.is_outbound:
            words += f"\n{tick_of_row(row).value.capitalize()}: {moment_words(row.status_at)}"
        QToolTip.showText(help_event.globalPos(), words, self._view.viewport())

    def _hover(self, point: QPointF) -> None:
        before = self.hovered
        self.hovered = self._view.hit_test(point)
        hit = self.hovered[1]
        self._view.viewport().setCursor(_CURSORS.get(hit.target, Qt.CursorShape.ArrowCursor))
        if (before[0], before[1].action) != (self.hovered[0], hit.action) and (
            before[1].action or hit.action
        ):
            self._view.viewport().update()

    # --- selecting --------------------------------------------------------------------------------

    def press(self, event: QMouseEvent) -> None:
        if event.button() is not Qt.MouseButton.LeftButton:
            return
        view = self._view
        element, hit = view.hit_test(event.position())
        self._pressed = hit
        self._by_words = None
        if self._is_third_click(event):
            if element is not None and element.text_length():
                view.selection.select(Place(element.key, 0), Place(element.key, element.text_length()))
        elif element is not None and event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            view.selection.extend(Place(element.key, hit.position))
        elif isinstance(element, MessageElement) and hit.target is not Target.ACTION:
            view.selection.start(Place(element.key, hit.position))
        else:
            view.selection.clear()
        view.focus_message(None)
        view.viewport().update()

    def move(self, event: QMouseEvent) -> None:
        if self._pressed is None or not event.buttons() & Qt.MouseButton.LeftButton:
            self._hover(event.position())
            return
        if self._pressed.target is Target.ACTION:
            return
        self._extend_to(event.position())
        beyond = not 0 <= event.position().y() < self._view.viewport().height()
        if beyond and not self._auto_scroll.isActive():
            self._auto_scroll.start()
        elif not beyond:
            self._auto_scroll.stop()

    def release(self, event: QMouseEvent) -> None:
        if event.button() is not Qt.MouseButton.LeftButton or self._pressed is None:
            return
        self._auto_scroll.stop()
        view, pressed = self._view, self._pressed
        self._pressed = None
        element, hit = view.hit_test(event.position())
        if view.selection.is_empty and hit == pressed and isinstance(element, MessageElement):
            if hit.target is Target.LINK:
                view.link_activated.emit(hit.link)
            elif hit.target is Target.ACTION and hit.action is not None:
                view.act(element.row, hit.action)
        clipboard = QGuiApplication.clipboard()
        if not view.selection.is_empty and clipboard.supportsSelection():
            clipboard.setText(
                copied_text(view.stack.elements, view.selection.bounds(view.stack)), clipboard.Mode.Selection
            )
        view.viewport().update()

    def double_click(self, event: QMouseEvent) -> None:
        element, hit = self._view.hit_test(event.position())
        self._clicks, self._last_click_time = 2, event.timestamp()
        self._last_click_at = event.position()
        if isinstance(element, MessageElement) and hit.target in {Target.TEXT, Target.LINK}:
            start, end = element.word_at(hit.position)
            self._by_words = (Place(element.key, start), Place(element.key, end))
            self._pressed = Hit(Target.TEXT, hit.position)
            self._view.selection.select(*self._by_words)
            self._view.viewport().update()

    def _is_third_click(self, event: QMouseEvent) -> bool:
        soon = event.timestamp() - self._last_click_time < QApplication.doubleClickInterval()
        near = (event.position() - self._last_click_at).manhattanLength() < QApplication.startDragDistance()
        third = self._clicks == 2 and soon and near
        self._clicks = 0
        return third

    def _extend_to(self, point: QPointF) -> None:
        view = self._view
        element, hit = view.hit_test(point)
        if not isinstance(element, MessageElement):
            return
        head = Place(element.key, hit.position)
        if self._by_words is not None:
            self._extend_by_words(element, hit.position)
        else:
            view.selection.extend(head)
        view.viewport().update()

    def _extend_by_words(self, element: MessageElement, position: int) -> None:
        view = self._view
        first, last = cast("tuple[Place, Place]", self._by_words)
        start, end = element.word_at(position)
        index, origin = view.stack.index_of(element.key), view.stack.index_of(first.key)
        if index is None or origin is None:
            return
        if (index, start) < (origin, first.position):
            view.selection.select(last, Place(element.key, start))
        else:
            view.selection.select(
                first, Place(element.key, max(end, last.position) if index == origin else end)
            )

    def _on_auto_scroll(self) -> None:
        viewport = self._view.viewport()
        point = viewport.mapFromGlobal(QCursor.pos())
        beyond = point.y() if point.y() < 0 else point.y() - viewport.height()
        bar = self._view.verticalScrollBar()
        bar.setValue(bar.value() + round(beyond * 0.5))
        self._extend_to(QPointF(point.x(), min(max(point.y(), 0), viewport.height() - 1)))
