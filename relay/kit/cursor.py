"""Opaque cursors for lists that are ordered by a time and an id."""

import base64
import contextlib
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from relay.kit.problem import ProblemError
from shared.wire.problem import Code

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Position(NamedTuple):
    """A place in a list: the last row of a page."""

    at: datetime
    id: UUID


def encode(position: Position) -> str:
    """The position as text for a URL, exact to the microsecond."""
    micros = (position.at - _EPOCH) // _MICROSECOND
    raw = micros.to_bytes(8, "big", signed=True) + position.id.bytes
    return base64.urlsafe_b64encode(raw).decode()


def decode(cursor: str) -> Position:
    """The position a cursor stands for. Raises `ProblemError` (`invalid_cursor`) for anything else."""
    with contextlib.suppress(ValueError, OverflowError):
        raw = base64.urlsafe_b64decode(cursor.encode("ascii"))
        at = _EPOCH + _MICROSECOND * int.from_bytes(raw[:8], "big", signed=True)
        position = Position(at, UUID(bytes=raw[8:]))  # refuses any length but 16
        if encode(position) == cursor:
            return position
    raise ProblemError(
        Code.INVALID_CURSOR, "This cursor is not one that the relay gave out. Start from the first page."
    )
