"""Who is asking: the access token, and the device sessions that ended before their tokens did."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import jwt
import msgspec
import structlog

from relay.accounts import queries
from relay.kit import clock
from relay.kit.db import Database
from relay.kit.doorbell import Doorbell
from relay.kit.problem import ProblemError
from shared.wire.problem import Code

log = structlog.get_logger(__name__)

ACCESS_TOKEN_LIFETIME: Final = timedelta(minutes=10)
REVOCATION_POLL_SECONDS: Final = 10.0
_ALGORITHM: Final = "HS256"
_ISSUER: Final = "relaydesk"


class Identity(msgspec.Struct, frozen=True):
    """The user behind a request, as the access token says; `expires_at` is the token's."""

    tenant_id: UUID
    user_id: UUID
    session_id: UUID
    role: str
    name: str
    expires_at: datetime


class AccessTokens:
    """Issues and checks access tokens: JWTs of ten minutes, signed with the newest of our secrets."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = {_key_id(secret): secret for secret in secrets}
        self._newest = _key_id(secrets[0])

    def issue(self, identity: Identity, *, version: int) -> str:
        """A token for this identity, ending at its `expires_at`; `version` is the user row's."""
        claims = {
            "iss": _ISSUER,
            "sub": str(identity.user_id),
            "tid": str(identity.tenant_id),
            "sid": str(identity.session_id),
            "ver": version,
            "role": identity.role,
            "name": identity.name,
            "iat": clock.now(),
            "exp": identity.expires_at,
        }
        return jwt.encode(claims, self._secrets[self._newest], _ALGORITHM, headers={"kid": self._newest})

    def read(self, token: str) -> Identity:
        """The identity a token speaks for. Raises ProblemError `unauthenticated`."""
        try:
            secret = self._secrets[jwt.get_unverified_header(token).get("kid", "")]
            claims = jwt.decode(
                token,
                secret,
                algorithms=[_ALGORITHM],
                issuer=_ISSUER,
                # `iat` was set by another machine's clock, which may run ahead of ours.
                options={"require": ["exp", "sub", "tid", "sid"], "verify_iat": False},
            )
            return Identity(
                tenant_id=UUID(claims["tid"]),
                user_id=UUID(claims["sub"]),
                session_id=UUID(claims["sid"]),
                role=claims["role"],
                name=claims["name"],
                expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            )
        except jwt.ExpiredSignatureError:
            raise ProblemError(Code.UNAUTHENTICATED, "The access token has expired.") from None
        except (jwt.InvalidTokenError, KeyError, ValueError):
            raise ProblemError(Code.UNAUTHENTICATED, "The access token is not valid.") from None


class RevokedSessions:
    """The device sessions that were revoked while an access token of theirs may still be running.

    Filled by the doorbell at once and by a poll every ten seconds. Failure policy: open. A process that is
    cut off from the database accepts a revoked session for as long as its token runs, ten minutes at most.
    """

    def __init__(self, database: Database, doorbell: Doorbell) -> None:
        self._database = database
        self._doorbell = doorbell
        self._revoked: dict[UUID, datetime] = {}  # until when it matters

    def is_revoked(self, session_id: UUID) -> bool:
        return session_id in self._revoked

    def add(self, session_id: UUID) -> None:
        self._revoked[session_id] = clock.now() + ACCESS_TOKEN_LIFETIME

    async def refresh(self) -> None:
        """Read what was revoked lately, and forget what no token can name any more."""
        async with self._database.system() as work:
            for session_id in await queries.sessions_revoked_within(work, ACCESS_TOKEN_LIFETIME):
                self.add(session_id)
        now = clock.now()
        self._revoked = {id_: until for id_, until in self._revoked.items() if until > now}

    async def run(self) -> None:
        """Keep the set current until cancelled."""
        with self._doorbell.watch_revoked(self.add):
            while True:
                try:
                    await self.refresh()
                except Exception:
                    log.warning("revocations.poll_failed", exc_info=True)
                await asyncio.sleep(REVOCATION_POLL_SECONDS)


class Authenticator:
    """What routes and sockets ask: whose token is this, and does its device session still stand?"""

    def __init__(self, tokens: AccessTokens, revoked: RevokedSessions) -> None:
        self._tokens = tokens
        self.revoked = revoked

    async def authenticate(self, token: str) -> Identity:
        """Raises ProblemError `unauthenticated` or `session_revoked`."""
        identity = self._tokens.read(token)
        if self.revoked.is_revoked(identity.session_id):
            raise ProblemError(Code.SESSION_REVOKED)
        return identity


def bearer_token(header: str | None) -> str:
    """The token of an Authorization header. Raises ProblemError `unauthenticated`."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.casefold() != "bearer" or not token.strip():
        raise ProblemError(Code.UNAUTHENTICATED, "Send the access token as “Authorization: Bearer …”.")
    return token.strip()


def _key_id(secret: str) -> str:
    return hashlib.sha256(b"relaydesk token key" + secret.encode()).hexdigest()[:8]
