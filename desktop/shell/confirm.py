"""A question with two answers."""

from PySide6.QtWidgets import QDialog, QHBoxLayout, QVBoxLayout, QWidget

from desktop.ui.buttons import Button, Kind
from desktop.ui.type_scale import SPACE_2, SPACE_4, SPACE_5, Role
from desktop.ui.widgets import Label


class ConfirmDialog(QDialog):
    """Accepted if the person agrees. Cancel is the default where it is `grave`."""

    def __init__(self, parent: QWidget, title: str, text: str, yes: str, *, grave: bool = False) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setMinimumWidth(380)
        words = Label(text, Role.BODY, "text_secondary")
        words.setWordWrap(True)
        agree = Button(yes, Kind.DANGER if grave else Kind.PRIMARY)
        cancel = Button("Cancel", Kind.TINTED)
        agree.clicked.connect(self.accept)
        cancel.clicked.connect(self.reject)
        (cancel if grave else agree).setDefault(True)
        (cancel if grave else agree).setFocus()
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACE_2)
        buttons.addStretch(1)
        buttons.addWidget(cancel)
        buttons.addWidget(agree)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_5, SPACE_5, SPACE_5, SPACE_4)
        layout.setSpacing(SPACE_4)
        layout.addWidget(Label(title, Role.TITLE))
        layout.addWidget(words)
        layout.addLayout(buttons)
