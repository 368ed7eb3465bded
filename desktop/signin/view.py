"""The sign-in window: where the relay is, who one is, and in words what went wrong."""

from typing import NamedTuple

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent, QAction, QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from desktop.ui import icon
from desktop.ui.buttons import Button, Kind
from desktop.ui.type_scale import RADIUS, SPACE_1, SPACE_2, SPACE_3, SPACE_4, SPACE_5, SPACE_6, Role, font
from desktop.ui.widgets import Card, IconMark, Label, Panel


class Credentials(NamedTuple):
    relay_url: str
    email: str
    password: str
    remember: bool


class SignInView(Panel):
    """Emits `submitted` with `Credentials`; the owner answers with `show_busy` and `show_error`."""

    submitted = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("window", parent)
        self.setWindowTitle("Sign in to Relaydesk")
        self.relay = _field("https://relay.example.com")
        self.email = _field("you@company.com")
        self.password = _field("")
        self.password.setEchoMode(QLineEdit.EchoMode.Password)
        self.reveal = QAction(icon.icon("eye", "icon_muted"), "Show password", self)
        self.reveal.triggered.connect(self._toggle_password)
        self.password.addAction(self.reveal, QLineEdit.ActionPosition.TrailingPosition)
        self.remember = QCheckBox("Keep me signed in on this computer")
        self.remember.setChecked(True)
        self.remember.setFont(font(Role.SECONDARY))
        self._why_not = Label("", Role.CAPTION, "text_tertiary")
        self._why_not.setWordWrap(True)
        self._why_not.hide()
        self.button = Button("Sign in", Kind.PRIMARY)
        self.button.setDefault(True)
        self.button.setMinimumHeight(42)
        self.button.clicked.connect(self._submit)
        self._error = _ErrorNote()
        for field in (self.relay, self.email, self.password):
            field.returnPressed.connect(self._submit)
            field.textEdited.connect(self._error.hide)
        self._build()

    def _build(self) -> None:
        card = Card(colour="surface")
        card.setFixedWidth(400)
        inner = QVBoxLayout(card)
        inner.setContentsMargins(SPACE_6, SPACE_6, SPACE_6, SPACE_6)
        inner.setSpacing(SPACE_1 + 2)
        inner.addWidget(_Logo(), alignment=Qt.AlignmentFlag.AlignHCenter)
        inner.addSpacing(SPACE_3)
        heading = Label("Sign in to Relaydesk", Role.TITLE)
        heading.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        inner.addWidget(heading)
        sub = Label("Answer your customers on WhatsApp, as a team", Role.SECONDARY, "text_secondary")
        sub.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        inner.addWidget(sub)
        inner.addSpacing(SPACE_4)
        inner.addWidget(self._error)
        for words, field in (
            ("Relay address", self.relay),
            ("E-mail", self.email),
            ("Password", self.password),
        ):
            label = Label(words, Role.SECONDARY_STRONG, "text_secondary")
            label.setBuddy(field)
            field.setAccessibleName(words)
            inner.addSpacing(SPACE_2)
            inner.addWidget(label)
            inner.addWidget(field)
        inner.addSpacing(SPACE_3)
        inner.addWidget(self.remember)
        inner.addWidget(self._why_not)
        inner.addSpacing(SPACE_3)
        inner.addWidget(self.button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_5, SPACE_5, SPACE_5, SPACE_5)
        layout.addStretch(2)
        # Not by alignment: an aligned item gets its size hint, which is wrong where words wrap.
        middle = QHBoxLayout()
        middle.addStretch(1)
        middle.addWidget(card)
        middle.addStretch(1)
        layout.addLayout(middle)
        foot = QHBoxLayout()
        foot.addStretch(1)
        foot.addWidget(IconMark("lock", 14, "text_tertiary"))
        foot.addWidget(Label("Messages on this computer are kept encrypted", Role.CAPTION, "text_secondary"))
        foot.addStretch(1)
        layout.addSpacing(SPACE_3)
        layout.addLayout(foot)
        layout.addStretch(3)

    # --- what the owner does ----------------------------------------------------------------------

    def prefill(self, relay_url: str, email: str, *, can_remember: bool, why_not: str) -> None:
        """What is known from the last time; what was already typed stays.

        Focus goes to the first empty field.
        """
        for field, known in ((self.relay, relay_url), (self.email, email)):
            if not field.text():
                field.setText(known)
        self.remember.setEnabled(can_remember)
        self.remember.setChecked(can_remember)
        self._why_not.setText(why_not)
        self._why_not.setVisible(bool(why_not) and not can_remember)
        self.focus_first_empty()

    def focus_first_empty(self) -> None:
        fields = (self.relay, self.email, self.password)
        next((field for field in fields if not field.text()), self.password).setFocus()

    def show_busy(self, busy: bool) -> None:
        """While the relay is asked, nothing can be changed."""
        for widget in (self.relay, self.email, self.password, self.remember):
            widget.setEnabled(not busy and (widget is not self.remember or not self._why_not.isVisible()))
        self.button.set_busy("Signing in…" if busy else "")
        if busy:
            self._error.hide()

    def show_error(self, title: str, advice: str, *, at: str = "password") -> None:
        """Say what went wrong. `at`: the field to look at (`relay`, `email`, `password`)."""
        self.show_busy(False)
        self._error.say(title, advice)
        spoken = QAccessibleAnnouncementEvent(self, f"{title} {advice}")
        spoken.setPoliteness(QAccessible.AnnouncementPoliteness.Assertive)
        QAccessible.updateAccessibility(spoken)
        field = {"relay": self.relay, "email": self.email}.get(at, self.password)
        field.setFocus()
        field.selectAll()

    def error_text(self) -> str:
        """What the error note says; "" while there is none."""
        return self._error.text() if not self._error.isHidden() else ""

    # --- changes ----------------------------------------------------------------------------------

    def _submit(self) -> None:
        if not self.button.isEnabled():
            return
        relay, email = self.relay.text().strip(), self.email.text().strip()
        if not relay:
            self.show_error(
                "Where is your relay?", "Ask whoever set up Relaydesk for its address.", at="relay"
            )
        elif "@" not in email:
            self.show_error("That is not an e-mail address.", "It looks like name@company.com.", at="email")
        elif not self.password.text():
            self.show_error("The password is missing.", "Type it and press Enter.")
        else:
            self.submitted.emit(Credentials(relay, email, self.password.text(), self.remember.isChecked()))

    def _toggle_password(self) -> None:
        hidden = self.password.echoMode() is QLineEdit.EchoMode.Password
        self.password.setEchoMode(QLineEdit.EchoMode.Normal if hidden else QLineEdit.EchoMode.Password)
        self.reveal.setIcon(icon.icon("eye-off" if hidden else "eye", "icon_muted"))
        self.reveal.setText("Hide password" if hidden else "Show password")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self._error.hide()
        else:
            super().keyPressEvent(event)


def _field(placeholder: str) -> QLineEdit:
    field = QLineEdit(placeholderText=placeholder)
    field.setFont(font(Role.BODY))
    field.setMinimumHeight(40)
    return field


class _ErrorNote(Panel):
    def __init__(self) -> None:
        super().__init__("danger_soft", radius=RADIUS)
        self._title = Label("", Role.SECONDARY_STRONG, "danger_text")
        self._advice = Label("", Role.SECONDARY, "danger_text")
        words = QVBoxLayout()
        words.setSpacing(2)
        for label in (self._title, self._advice):
            label.setWordWrap(True)
            words.addWidget(label)
        row = QHBoxLayout(self)
        row.setContentsMargins(SPACE_3, SPACE_3, SPACE_3, SPACE_3)
        row.setSpacing(SPACE_3)
        row.addWidget(IconMark("alert", 18, "danger_text"), alignment=Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        self.hide()

    def say(self, title: str, advice: str) -> None:
        self._title.setText(title)
        self._advice.setText(advice)
        self._advice.setVisible(bool(advice))
        self.setAccessibleName(f"{title} {advice}".strip())
        self.show()

    def text(self) -> str:
        return f"{self._title.text()} {self._advice.text()}".strip()


class _Logo(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self.setFixedSize(64, 64)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        painter = QPainter(self)
        painter.drawPixmap(0, 0, icon.logo(64, self.devicePixelRatioF()))
        painter.end()
