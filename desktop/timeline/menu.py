"""The context menu of a message. It is shown with `popup`, which starts no nested loop."""

from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QMenu

from desktop.timeline.elements.base import Element
from desktop.timeline.elements.bubble import MessageElement
from desktop.timeline.hit import Action, Hit
from desktop.timeline.selection import copied_text
from desktop.ui import icon

if TYPE_CHECKING:
    from desktop.timeline.view import MessageView

_ICONS = {Action.RETRY: "retry", Action.EDIT: "edit", Action.DELETE: "trash", Action.WRITE_AGAIN: "edit"}


def popup(view: "MessageView", element: Element | None, hit: Hit, at: QPoint) -> None:
    """Show what can be done with what is at `at` (global)."""
    menu = QMenu(view)
    menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    selected = copied_text(view.stack.elements, view.selection.bounds(view.stack))
    if selected:
        _copy(menu, "Copy selected text", "copy", selected)
    if hit.link:
        link = hit.link
        menu.addAction(icon.icon("globe"), "Open link", lambda: view.link_activated.emit(link))
        _copy(menu, "Copy link", "link", link.removeprefix("mailto:"))
    if isinstance(element, MessageElement):
        _copy(menu, "Copy message", "copy", element.selected_text(0, element.text_length()))
        if element.notice.actions:
            menu.addSeparator()
        row = element.row
        for action in element.notice.actions:
            menu.addAction(
                icon.icon(_ICONS[action]), action.value, lambda chosen=action: view.act(row, chosen)
            )
    if menu.isEmpty():
        menu.deleteLater()
    else:
        menu.popup(at)


def _copy(menu: QMenu, words: str, icon_name: str, text: str) -> None:
    menu.addAction(icon.icon(icon_name), words, lambda: QGuiApplication.clipboard().setText(text))
