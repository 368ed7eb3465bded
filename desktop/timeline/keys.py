"""The keyboard in the view: moving from message to message, paging, copying, acting."""

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QScrollBar

from desktop.timeline.elements.bubble import MessageElement

if TYPE_CHECKING:
    from desktop.timeline.view import MessageView

_SliderAction = QScrollBar.SliderAction


def handle(view: "MessageView", event: QKeyEvent) -> bool:
    """Whether the key meant something here."""
    bar = view.verticalScrollBar()
    key = Qt.Key(event.key())
    plain = event.modifiers() in {Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.KeypadModifier}
    if event.matches(QKeySequence.StandardKey.Copy):
        text = view.copy_text()
        if text:
            QGuiApplication.clipboard().setText(text)
    elif event.matches(QKeySequence.StandardKey.SelectAll):
        view.select_all()
    elif plain and key in {Qt.Key.Key_Up, Qt.Key.Key_Down}:
        _move_focus(view, -1 if key is Qt.Key.Key_Up else 1)
    elif plain and key is Qt.Key.Key_PageUp:
        bar.triggerAction(_SliderAction.SliderPageStepSub)
        _focus_on_screen(view, first=True)
    elif plain and key is Qt.Key.Key_PageDown:
        bar.triggerAction(_SliderAction.SliderPageStepAdd)
        _focus_on_screen(view, first=False)
    elif plain and key is Qt.Key.Key_Home:
        bar.setValue(0)
        _focus_on_screen(view, first=True)
    elif plain and key is Qt.Key.Key_End:
        view.jump_to_newest()
        _focus_on_screen(view, first=False)
    elif plain and key in {Qt.Key.Key_Return, Qt.Key.Key_Enter}:
        return view.open_focused_menu()
    elif key is Qt.Key.Key_Escape and not view.selection.is_empty:
        view.selection.clear()
        view.viewport().update()
    elif _is_typing(event):
        view.typed.emit(event.text())
    else:
        return False
    return True


def _move_focus(view: "MessageView", step: int) -> None:
    messages = view.message_elements()
    if not messages:
        return
    keys = [element.row.key for element in messages]
    current = view.focused_key
    if current not in keys:
        _focus_on_screen(view, first=False)
        return
    index = keys.index(current) + step
    if 0 <= index < len(keys):
        view.focus_message(keys[index])
    else:
        # Nothing further is loaded: scrolling asks for it.
        view.verticalScrollBar().setValue(view.verticalScrollBar().value() + step * 48)


def _focus_on_screen(view: "MessageView", *, first: bool) -> None:
    visible = list(view.visible_indices())
    for index in visible if first else reversed(visible):
        element = view.stack.elements[index]
        rect = view.rect_of(index)
        fits = rect.top() >= 0 and rect.bottom() <= view.viewport().height()
        if isinstance(element, MessageElement) and (fits or len(visible) < 3):
            view.focus_message(element.row.key)
            return


def _is_typing(event: QKeyEvent) -> bool:
    control = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.MetaModifier
    return bool(event.text()) and event.text().isprintable() and not event.modifiers() & control
