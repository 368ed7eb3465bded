"""What is known about an account outside its encrypted cache. No secrets, no names of customers."""

import hashlib
import hmac
import logging
import shutil
from pathlib import Path
from uuid import UUID

import msgspec

from desktop.platform.paths import AppPaths, make_private_folder

log = logging.getLogger("desktop.account")

_SESSION = "session"


class AccountFile(msgspec.Struct, frozen=True, kw_only=True):
    """`holder` names the keyring that held the key; `key_check` tells another key from a damaged file."""

    user_id: UUID
    email: str
    relay_url: str
    holder: str
    key_check: str


class AccountFolder:
    """The files of one account: `account.json`, `cache.db`, and the number of unsent messages.

    That number is kept outside the cache, so that it can be told when the cache cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cache = path / "cache.db"

    def read(self) -> AccountFile | None:
        """None if there is no account here, or its file is damaged."""
        file = self.path / "account.json"
        try:
            return msgspec.json.decode(file.read_bytes(), type=AccountFile)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            log.exception("%s cannot be read", file)
            return None

    def write(self, account: AccountFile) -> None:
        make_private_folder(self.path)
        _replace(self.path / "account.json", msgspec.json.encode(account))

    @property
    def unsent(self) -> int:
        try:
            return int((self.path / "unsent").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def note_unsent(self, count: int) -> None:
        (self.path / "unsent").write_text(str(count))

    def set_cache_aside(self, suffix: str) -> None:
        """Make room for a new cache; the old file is kept, for whoever can still read it."""
        for name in ("cache.db", "cache.db-wal", "cache.db-shm"):
            file = self.path / name
            if file.exists():
                file.rename(self.path / f"unreadable-{suffix}-{name}")

    def delete(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def account_folder(paths: AppPaths, user_id: UUID, *, lasting: bool) -> AccountFolder:
    """`lasting` False: for a session that is not remembered, deleted when the program ends."""
    parent = paths.accounts if lasting else paths.accounts / _SESSION
    return AccountFolder(parent / str(user_id))


def delete_session_folders(paths: AppPaths) -> None:
    """What sessions that are not remembered left behind; their keys are gone, so it is unreadable anyway."""
    shutil.rmtree(paths.accounts / _SESSION, ignore_errors=True)


def current_account(paths: AppPaths) -> AccountFolder | None:
    """The account that was signed in last and not signed out."""
    try:
        user_id = UUID(paths.current_account.read_text().strip())
    except (FileNotFoundError, ValueError):
        return None
    return account_folder(paths, user_id, lasting=True)


def set_current_account(paths: AppPaths, user_id: UUID | None) -> None:
    if user_id is None:
        paths.current_account.unlink(missing_ok=True)
    else:
        _replace(paths.current_account, str(user_id).encode())


def key_check(key: bytes) -> str:
    """A fingerprint that says nothing about the key, which is random and 32 bytes long."""
    return hmac.new(key, b"relaydesk cache key", hashlib.sha256).hexdigest()[:32]


def _replace(file: Path, content: bytes) -> None:
    """Write all or nothing."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.chmod(0o600)
    new.replace(file)
