"""How often one may try to sign in: per e-mail and per network address.

Failure policy: closed. Where an attempt cannot be counted, nobody signs in.
"""

import math
from datetime import timedelta
from typing import Final, NamedTuple

from relay.accounts import queries
from relay.kit.db import Database
from relay.kit.problem import ProblemError
from relay.kit.secrets import Secrets
from shared.wire.problem import Code


class Allowance(NamedTuple):
    """`burst` attempts at once, and one more each `interval`."""

    burst: int
    interval: timedelta


PER_EMAIL: Final = Allowance(10, timedelta(seconds=60))
PER_ADDRESS: Final = Allowance(30, timedelta(seconds=5))


class SignInAttempts:
    """Counts attempts in Postgres, so that all processes count together. Keys are stored as hashes."""

    def __init__(self, database: Database, secrets: Secrets) -> None:
        self._database = database
        self._secrets = secrets

    async def take(self, email: str, address: str) -> None:
        """Count an attempt before the password is looked at. Raises ProblemError `rate_limited`."""
        for kind, value, allowance in (("address", address, PER_ADDRESS), ("email", email, PER_EMAIL)):
            # A transaction each: what an attempt used up stays used, whatever happens next.
            async with self._database.system() as work:
                wait = await queries.take_attempt(
                    work, self._key(kind, value), allowance.interval, allowance.burst
                )
            if wait is not None:
                seconds = max(1, math.ceil(wait.total_seconds()))
                raise ProblemError(
                    Code.RATE_LIMITED,
                    f"Too many attempts to sign in. Try again in {seconds} seconds.",
                    headers={"Retry-After": str(seconds)},
                )

    async def forgive(self, email: str) -> None:
        """The password was right: earlier attempts on this e-mail no longer count."""
        async with self._database.system() as work:
            await queries.forget_attempts(work, self._key("email", email))

    def _key(self, kind: str, value: str) -> bytes:
        return self._secrets.mac(f"sign-in-attempt-{kind}", None, value.encode())


async def clear_old_attempts(database: Database) -> int:
    """Forget keys whose allowance has long been full again; returns how many."""
    async with database.system() as work:
        return await queries.clear_old_attempts(work)
