"""Where secrets live: the operating system's keyring, or this process's memory and nowhere else.

A secret never goes into a plain file. `$PYTHON_KEYRING_BACKEND` (the keyring library's own setting) chooses
another backend, which tests use.
"""

import logging
from typing import Final, Protocol

import keyring.core
import keyring.errors

from desktop.errors import UserFacing

log = logging.getLogger("desktop.keyring")

SERVICE: Final = "relaydesk"


class KeyringUnavailable(UserFacing):
    """No safe place for secrets, or it refused. `code` is `keyring_unavailable`."""

    code = "keyring_unavailable"


class SecretStore(Protocol):
    """Blocking: call it off the event loop.

    `holder` names where the secrets are, for people and for the record; `lasting` is False where they end
    with the process.
    """

    holder: str
    lasting: bool

    def get(self, name: str) -> str | None: ...

    def set(self, name: str, value: str) -> None: ...

    def delete(self, name: str) -> None: ...


class SystemKeyring:
    """The keyring of the operating system; raises `KeyringUnavailable` if it refuses."""

    lasting = True

    def __init__(self) -> None:
        backend = keyring.core.get_keyring()
        # Recommended backends keep secrets safe; the others are "none" and plain files.
        if not keyring.core.recommended(backend):
            raise KeyringUnavailable(
                "This computer has no keyring that Relaydesk could keep its key in.",
                "You can sign in for this session only, or install and unlock a keyring "
                "(GNOME Keyring, KWallet) and start again.",
            )
        self._backend = backend
        self.holder = f"{type(backend).__module__}.{type(backend).__qualname__}"

    def get(self, name: str) -> str | None:
        try:
            return self._backend.get_password(SERVICE, name)
        except keyring.errors.KeyringError as error:
            raise self._refused(error) from error

    def set(self, name: str, value: str) -> None:
        try:
            self._backend.set_password(SERVICE, name, value)
        except keyring.errors.KeyringError as error:
            raise self._refused(error) from error

    def delete(self, name: str) -> None:
        try:
            self._backend.delete_password(SERVICE, name)
        except keyring.errors.PasswordDeleteError:
            log.debug("%s was not in the keyring", name)
        except keyring.errors.KeyringError as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> KeyringUnavailable:
        return KeyringUnavailable(
            "The keyring did not answer.",
            f"Unlock it and try again. It said: {error!s}",
        )


class SessionSecrets:
    """Secrets of this process only: they end with it, and so does what they encrypt."""

    lasting = False
    holder = "this session"

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        return self._secrets.get(name)

    def set(self, name: str, value: str) -> None:
        self._secrets[name] = value

    def delete(self, name: str) -> None:
        self._secrets.pop(name, None)
