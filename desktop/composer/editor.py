"""The text field of the composer: Enter sends, Shift+Enter breaks the line, it grows with its text."""

from typing import Final

from PySide6.QtCore import QMimeData, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QInputMethodEvent, QKeyEvent, QPalette, QTextOption
from PySide6.QtWidgets import QFrame, QSizePolicy, QTextEdit, QWidget

from desktop.ui.theme import theme
from desktop.ui.type_scale import Role, font

_LINES_MAX: Final = 8
_MARGIN: Final = 8
_ENTER: Final = frozenset({Qt.Key.Key_Return, Qt.Key.Key_Enter})


class Editor(QTextEdit):
    """Plain text. `submitted` is emitted on Enter; the text stays until the owner clears it."""

    submitted = Signal()
    left = Signal()
    """Escape: the person wants out."""

    focused = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._composing = False
        self.setAcceptRichText(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setTabChangesFocus(True)
        self.setFont(font(Role.BODY))
        self.setAccessibleName("Message")
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.document().setDocumentMargin(_MARGIN)
        self.document().documentLayout().documentSizeChanged.connect(self._on_size_changed)
        self.viewport().setAutoFillBackground(False)
        theme().changed.connect(self._recolour)
        self._recolour()
        self._on_size_changed()

    def text(self) -> str:
        return self.toPlainText()

    def set_text(self, text: str) -> None:
        """Replace the text, and put the cursor at its end."""
        self.setPlainText(text)
        cursor = self.textCursor()
        cursor.movePosition(cursor.MoveOperation.End)
        self.setTextCursor(cursor)

    def insertFromMimeData(self, source: QMimeData) -> None:
        if source.hasText():
            self.insertPlainText(source.text())

    def inputMethodEvent(self, event: QInputMethodEvent) -> None:
        self._composing = bool(event.preeditString())
        super().inputMethodEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in _ENTER and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            # While an input method composes, Enter belongs to it and must not send half a word.
            if not self._composing:
                self.submitted.emit()
            return
        if event.key() == Qt.Key.Key_Escape:
            self.left.emit()
            return
        super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.focused.emit()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        self._composing = False
        super().focusOutEvent(event)
        self.focused.emit()

    def sizeHint(self) -> QSize:
        return QSize(320, self._wanted_height())

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self._wanted_height())

    def _wanted_height(self) -> int:
        line = self.fontMetrics().lineSpacing()
        content = round(self.document().size().height())
        return min(max(content, line + 2 * _MARGIN), line * _LINES_MAX + 2 * _MARGIN)

    def _on_size_changed(self) -> None:
        height = self._wanted_height()
        if height != self.height():
            self.setFixedHeight(height)
        full = round(self.document().size().height()) > height
        policy = Qt.ScrollBarPolicy.ScrollBarAsNeeded if full else Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self.setVerticalScrollBarPolicy(policy)

    def _recolour(self) -> None:
        colours = QPalette(self.palette())
        colours.setColor(QPalette.ColorRole.Base, Qt.GlobalColor.transparent)
        tokens = theme().tokens
        colours.setColor(QPalette.ColorRole.Text, tokens.text_primary)
        colours.setColor(QPalette.ColorRole.PlaceholderText, tokens.text_placeholder)
        colours.setColor(QPalette.ColorRole.Highlight, tokens.selection)
        colours.setColor(QPalette.ColorRole.HighlightedText, tokens.selection_text)
        self.setPalette(colours)
