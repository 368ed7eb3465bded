"""Password hashes: argon2id in two threads at most, so that a burst of sign-ins costs bounded memory."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerificationError

MIN_CHARS: Final = 10
MAX_CHARS: Final = 256
THREADS: Final = 2
"""Each hash takes 19 MiB while it is computed."""

_hasher: Final = PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1, type=Type.ID)
_pool: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
# Checked where there is no such user, so that the answer takes as long as for a wrong password.
_NOBODY: Final = (
    "$argon2id$v=19$m=19456,t=2,p=1$+ZuQEfezTpghwcas/FeRvQ$vBZHUBwOAKZURnXVFeziYhftfBTFt5l0eVJAUsz8Sxs"
)


class PasswordCheck(NamedTuple):
    """Whether the password fits; `rehash` is a hash with today's parameters where the stored one is old."""

    ok: bool
    rehash: str | None = None


async def hash_password(password: str) -> str:
    """The argon2id hash to store. Raises ValueError, in words, for a password too short or too long."""
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise ValueError(f"A password has between {MIN_CHARS} and {MAX_CHARS} characters.")
    return await asyncio.get_running_loop().run_in_executor(_pool, _hasher.hash, password)


async def check_password(stored: str | None, password: str) -> PasswordCheck:
    """Check a password against its hash; against nobody's when `stored` is None, in the same time."""
    if len(password) > MAX_CHARS:
        stored, password = None, ""
    return await asyncio.get_running_loop().run_in_executor(_pool, _check, stored, password)


def _check(stored: str | None, password: str) -> PasswordCheck:
    try:
        _hasher.verify(stored or _NOBODY, password)
    except VerificationError:
        return PasswordCheck(ok=False)
    if stored is None:
        return PasswordCheck(ok=False)
    return PasswordCheck(
        ok=True, rehash=_hasher.hash(password) if _hasher.check_needs_rehash(stored) else None
    )
