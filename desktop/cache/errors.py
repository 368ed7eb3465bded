"""What can go wrong with the file, told apart: the computer's trouble is for the person, ours is a bug."""

from typing import Final

from sqlcipher3 import dbapi2

from desktop.errors import UserFacing

# The driver is a C module without type stubs.
SqlError: Final[type[Exception]] = dbapi2.Error  # type: ignore[attr-defined]

_SQLITE_BUSY = 5
_SQLITE_LOCKED = 6
_SQLITE_READONLY = 8
_SQLITE_IOERR = 10
_SQLITE_CORRUPT = 11
_SQLITE_FULL = 13
_SQLITE_CANTOPEN = 14
_SQLITE_NOTADB = 26

_CLOSE_OTHERS = "Close other programs that may be using Relaydesk's files, then try again."
_KNOWN = {
    _SQLITE_FULL: (
        "cache_full",
        "The disk is full.",
        "Free some space; Relaydesk carries on by itself.",
    ),
    _SQLITE_BUSY: ("cache_locked", "Relaydesk's data file is in use.", _CLOSE_OTHERS),
    _SQLITE_LOCKED: ("cache_locked", "Relaydesk's data file is in use.", _CLOSE_OTHERS),
    _SQLITE_READONLY: (
        "cache_read_only",
        "Relaydesk may not write to its data folder.",
        "Check the folder's permissions and that the disk is not write-protected.",
    ),
    _SQLITE_CANTOPEN: (
        "cache_read_only",
        "Relaydesk cannot open its data file.",
        "Check the permissions of its data folder.",
    ),
    _SQLITE_IOERR: (
        "cache_io",
        "The disk reported an error.",
        "Check the disk; Relaydesk tries again by itself.",
    ),
    _SQLITE_CORRUPT: (
        "cache_corrupt",
        "Relaydesk's local data is damaged.",
        "It can be loaded again from the relay. Messages that were not sent yet would be lost.",
    ),
    _SQLITE_NOTADB: (
        "cache_corrupt",
        "Relaydesk's local data is damaged.",
        "It can be loaded again from the relay. Messages that were not sent yet would be lost.",
    ),
}


class CacheError(UserFacing):
    """The cache file cannot be used, for a reason outside the program. `code` starts with `cache_`."""

    @property
    def can_rebuild(self) -> bool:
        """Whether a new file, loaded from the relay, would help."""
        return self.code in {"cache_corrupt", "cache_key_wrong", "cache_key_missing"}


def known_error(error: Exception) -> CacheError | None:
    """The words for a fault of the computer; None where the fault is ours."""
    known = _KNOWN.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if known is None:
        return None
    code, title, advice = known
    return CacheError(title, advice, code=code)


def key_missing(holder: str) -> CacheError:
    return CacheError(
        "The key to Relaydesk's local data is missing.",
        f"It was kept in {holder}. Unlock or restore that keyring and start again, "
        "or load everything anew from the relay.",
        code="cache_key_missing",
    )


def key_wrong(holder: str) -> CacheError:
    return CacheError(
        "The stored key does not open Relaydesk's local data.",
        f"The data was written with another key. It was kept in {holder}. "
        "Restore that keyring and start again, or load everything anew from the relay.",
        code="cache_key_wrong",
    )


def newer_schema() -> CacheError:
    return CacheError(
        "Relaydesk's local data was written by a newer version.",
        "Start the newer version, or update this one. Nothing was changed.",
        code="cache_newer",
    )
