"""What a screen reader sees of the painted view: a list whose items are the loaded rows.

Items are virtual: there is no widget behind them. Qt keeps only bare pointers to the interfaces, so they are
kept alive here, per view and element key, and taken back when their rows are gone.
"""

from typing import TYPE_CHECKING
from uuid import UUID

from PySide6.QtCore import QObject, QRect
from PySide6.QtGui import (
    QAccessible,
    QAccessibleAnnouncementEvent,
    QAccessibleEvent,
    QAccessibleInterface,
    QColor,
    QWindow,
)
from PySide6.QtWidgets import QAccessibleWidget

from desktop.timeline.elements.base import Element
from desktop.timeline.elements.bubble import MessageElement

if TYPE_CHECKING:
    from desktop.timeline.view import MessageView

_lists: "dict[int, MessageList]" = {}
"""By the id of the view; an entry is made when assistive technology asks for the view."""

_installed = False


def install() -> None:
    """Teach Qt about the view; once per process."""
    global _installed  # noqa: PLW0603 - Qt keeps factories for the life of the process
    if not _installed:
        QAccessible.installFactory(_factory)
        _installed = True


def rows_replaced(view: "MessageView") -> None:
    """Other rows are shown: forget items that are gone."""
    known = _lists.get(id(view))
    if known is not None:
        known.forget_gone()


def focus_moved(view: "MessageView", index: int) -> None:
    """The keyboard is on another row."""
    if QAccessible.isActive():
        event = QAccessibleEvent(view, QAccessible.Event.Focus)
        event.setChild(index)
        QAccessible.updateAccessibility(event)


def announce(view: "MessageView", text: str, *, urgent: bool = False) -> None:
    """Have a screen reader say `text`, as when a message arrives."""
    event = QAccessibleAnnouncementEvent(view, text)
    if urgent:
        event.setPoliteness(QAccessible.AnnouncementPoliteness.Assertive)
    QAccessible.updateAccessibility(event)


def _factory(_class_name: str, target: QObject | None) -> QAccessibleInterface | None:
    from desktop.timeline.view import MessageView  # noqa: PLC0415 - the view imports this module

    if not isinstance(target, MessageView):
        return None
    made = MessageList(target)
    _lists[id(target)] = made
    key = id(target)
    target.destroyed.connect(lambda: _lists.pop(key, None))
    return made


class MessageList(QAccessibleWidget):
    """The view as a list."""

    def __init__(self, view: "MessageView") -> None:
        super().__init__(view, QAccessible.Role.List, "Messages")
        self._view = view
        self._items: dict[UUID | str, _Item] = {}

    def childCount(self) -> int:
        return len(self._view.stack.elements)

    def child(self, index: int) -> QAccessibleInterface | None:  # type: ignore[override] # None is "no child"
        elements = self._view.stack.elements
        return self._item(elements[index]) if 0 <= index < len(elements) else None

    def indexOfChild(self, child: QAccessibleInterface) -> int:
        index = self._view.stack.index_of(child.key) if isinstance(child, _Item) else None
        return -1 if index is None else index

    def childAt(self, x: int, y: int) -> QAccessibleInterface | None:  # type: ignore[override] # None is "no child"
        if not self.rect().contains(x, y):
            return None
        inside = self._view.viewport().mapFromGlobal(QRect(x, y, 1, 1).topLeft())
        index = self._view.stack.index_at(inside.y() - self._view.content_top())
        return None if index is None else self.child(index)

    def focusChild(self) -> QAccessibleInterface | None:  # type: ignore[override] # None is "no child"
        element = self._view.focused_element()
        return self._item(element) if element is not None and self._view.hasFocus() else None

    def forget_gone(self) -> None:
        stack = self._view.stack
        for key in [key for key in self._items if stack.index_of(key) is None]:
            QAccessible.deleteAccessibleInterface(QAccessible.uniqueId(self._items.pop(key)))

    def _item(self, element: Element) -> "_Item":
        item = self._items.get(element.key)
        if item is None:
            item = self._items[element.key] = _Item(self._view, self, element.key)
            QAccessible.registerAccessibleInterface(item)
        return item


class _Item(QAccessibleInterface):
    """One row, as 'Sara, 10:42, Where is my parcel?, delivered'."""

    def __init__(self, view: "MessageView", parent: MessageList, key: UUID | str) -> None:
        super().__init__()
        self._view = view
        self._parent = parent
        self.key = key

    def _index(self) -> int | None:
        return self._view.stack.index_of(self.key)

    def isValid(self) -> bool:
        return self._index() is not None

    def object(self) -> QObject | None:  # type: ignore[override] # virtual items have none
        return None

    def window(self) -> QWindow | None:  # type: ignore[override] # None before it is shown
        return self._view.window().windowHandle()

    def parent(self) -> QAccessibleInterface:
        return self._parent

    def childCount(self) -> int:
        return 0

    def child(self, index: int) -> QAccessibleInterface | None:  # type: ignore[override] # noqa: ARG002 - None is "no child"
        return None

    def indexOfChild(self, child: QAccessibleInterface) -> int:  # noqa: ARG002 - it has none
        return -1

    def childAt(self, x: int, y: int) -> QAccessibleInterface | None:  # type: ignore[override] # noqa: ARG002 - None is "no child"
        return None

    def role(self) -> QAccessible.Role:
        return QAccessible.Role.ListItem

    def text(self, kind: QAccessible.Text) -> str:
        index = self._index()
        if index is None or kind is not QAccessible.Text.Name:
            return ""
        return self._view.stack.elements[index].accessible_text()

    def setText(self, kind: QAccessible.Text, text: str) -> None:
        """Rows cannot be renamed."""

    def rect(self) -> QRect:
        index = self._index()
        if index is None:
            return QRect()
        element = self._view.stack.elements[index]
        inside = element.accessible_rect(self._view.viewport().width())
        shown = inside.translated(0, self._view.rect_of(index).top()).toAlignedRect()
        return QRect(self._view.viewport().mapToGlobal(shown.topLeft()), shown.size())

    def state(self) -> QAccessible.State:
        state = QAccessible.State()
        index = self._index()
        state.readOnly = True
        state.focusable = True
        if index is None:
            state.invalid = True
            return state
        element = self._view.stack.elements[index]
        state.focused = self._view.hasFocus() and self._view.focused_key == self.key
        shown = self._view.rect_of(index)
        state.offscreen = shown.bottom() < 0 or shown.top() > self._view.viewport().height()
        state.selectable = isinstance(element, MessageElement)
        return state

    def foregroundColor(self) -> QColor:
        return QColor()

    def backgroundColor(self) -> QColor:
        return QColor()
