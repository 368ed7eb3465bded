"""One running desktop per profile: a second start hands over its arguments and leaves.

The lock file decides (Qt sees when its owner died), the local socket only carries the message.
"""

import hashlib
import logging
from pathlib import Path

from PySide6.QtCore import QLockFile, QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

log = logging.getLogger("desktop.single_instance")

HANDOVER_MS = 2_000


class SingleInstance(QObject):
    """Call `claim` once, before the engine starts; keep the object for the life of the program."""

    started_again = Signal(str)
    """A second start gave us its argument (a `wa://` link or nothing): raise the window."""

    def __init__(self, data_dir: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lock = QLockFile(str(data_dir / "running.lock"))
        self._lock.setStaleLockTime(0)
        # Local socket names are short and shared by all profiles of the user.
        self._name = "relaydesk-" + hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:16]
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        self._server.newConnection.connect(self._on_connection)

    def claim(self, argument: str = "") -> bool:
        """True: this is the only one. False: another one runs and was given `argument`; leave."""
        if not self._lock.tryLock(0):
            self._hand_over(argument)
            return False
        QLocalServer.removeServer(self._name)  # left behind by a crash; the lock says nobody listens
        if not self._server.listen(self._name):
            log.warning("a second start cannot reach this one: %s", self._server.errorString())
        return True

    def release(self) -> None:
        self._server.close()
        self._lock.unlock()

    def _hand_over(self, argument: str) -> None:
        socket = QLocalSocket()
        socket.connectToServer(self._name)
        if not socket.waitForConnected(HANDOVER_MS):
            log.warning("the running desktop does not answer: %s", socket.errorString())
            return
        socket.write(argument.encode())
        socket.flush()
        socket.waitForBytesWritten(HANDOVER_MS)
        socket.disconnectFromServer()

    def _on_connection(self) -> None:
        while (socket := self._server.nextPendingConnection()) is not None:
            socket.disconnected.connect(self._on_message_complete)
            if socket.state() == QLocalSocket.LocalSocketState.UnconnectedState:
                self._deliver(socket)

    def _on_message_complete(self) -> None:
        socket = self.sender()
        if isinstance(socket, QLocalSocket):
            self._deliver(socket)

    def _deliver(self, socket: QLocalSocket) -> None:
        argument = bytes(socket.readAll().data()).decode(errors="replace")
        socket.deleteLater()
        self.started_again.emit(argument)
