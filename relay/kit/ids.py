"""Ids are UUIDv7, made by whoever writes the row."""

from uuid import UUID

import uuid_utils.compat

_MAX_ORDINAL = (1 << 62) - 1


def new_id() -> UUID:
    """A fresh UUIDv7; ids made one after another in this process sort in that order."""
    return uuid_utils.compat.uuid7()


def ordered_id(unix_ms: int, ordinal: int) -> UUID:
    """The UUIDv7 for the `ordinal`-th thing of a sequence that several processes work on.

    Two calls with the same arguments give the same id, and within one millisecond ids sort by `ordinal`:
    random ids made by different processes would not. `ordinal` is below 2**62 and unique for ever.
    """
    if not 0 <= ordinal <= _MAX_ORDINAL:
        raise ValueError(f"ordinal out of range: {ordinal}")
    return UUID(int=(unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | 0b10 << 62 | ordinal)
