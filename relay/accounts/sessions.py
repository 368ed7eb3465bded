"""Device sessions: signing in, going on with a fresh pair of tokens, signing out."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from relay.accounts import queries, refresh_token
from relay.accounts.attempts import SignInAttempts
from relay.accounts.identity import ACCESS_TOKEN_LIFETIME, AccessTokens, Identity, RevokedSessions
from relay.kit import clock, ids
from relay.kit.db import Database
from relay.kit.doorbell import Doorbell
from relay.kit.passwords import check_password
from relay.kit.problem import ProblemError
from relay.kit.secrets import Secrets
from shared.wire.auth import LoginRequest, TokenPair
from shared.wire.problem import Code

log = structlog.get_logger(__name__)

IDLE: Final = timedelta(days=30)
"""A device that does not come back for this long has to sign in again."""
ABSOLUTE: Final = timedelta(days=180)
GRACE: Final = timedelta(seconds=60)
"""For this long a replaced refresh token answers with its successor, for clients whose answer was lost."""
LABEL_MAX_CHARS: Final = 200
EMAIL_MAX_CHARS: Final = 254
_SUCCESSOR: Final = {"table": "device_session", "column": "successor_sealed"}


class DeviceSessions:
    """The rules of device sessions. One instance per process."""

    def __init__(
        self,
        database: Database,
        secrets: Secrets,
        doorbell: Doorbell,
        tokens: AccessTokens,
        revoked: RevokedSessions,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._doorbell = doorbell
        self._tokens = tokens
        self._revoked = revoked
        self._attempts = SignInAttempts(database, secrets)

    async def login(self, request: LoginRequest, address: str) -> TokenPair:
        """A new device session. `address` is where the request came from, for the attempt limit.

        Raises ProblemError `invalid_credentials` (for an unknown e-mail too, after the same time),
        `forbidden` when the tenant is suspended, `rate_limited`.
        """
        email = request.email.strip().lower()[:EMAIL_MAX_CHARS]
        await self._attempts.take(email, address)
        async with self._database.system() as work:
            account = await queries.account_by_email(work, email)
        check = await check_password(account.password_hash if account else None, request.password)
        if account is None or not check.ok:
            raise ProblemError(Code.INVALID_CREDENTIALS, "Check both and try again.")
        await self._attempts.forgive(email)
        if account.tenant_status != "active":
            raise ProblemError(Code.FORBIDDEN, "This account is suspended. Ask whoever runs your relay.")
        session_id = ids.new_id()
        refresh = refresh_token.new_token(self._secrets, account.tenant_id, session_id)
        async with self._database.system() as work:
            if check.rehash is not None:
                await queries.replace_password_hash(
                    work, account.login_id, account.password_hash, check.rehash
                )
            await queries.insert_session(
                work,
                account.tenant_id,
                session_id,
                account.user_id,
                self._secrets.mac("refresh-token", account.tenant_id, refresh.encode()),
                device_name=request.device_name[:LABEL_MAX_CHARS],
                platform=request.platform[:LABEL_MAX_CHARS],
                idle=IDLE,
            )
        log.info("session.started", tenant_id=str(account.tenant_id), session_id=str(session_id))
        identity = self._identity(account.tenant_id, account.user_id, session_id, account.role, account.name)
        return self._pair(identity, account.version, refresh)

    async def refresh(self, token: str) -> TokenPair:
        """The next pair of tokens. The same answer again for a token replaced less than a minute ago.

        Raises ProblemError `unauthenticated` (not ours, or too old), or `session_revoked`: also for a token
        replaced longer ago, since then two parties hold tokens of this session.
        """
        parsed = refresh_token.parse(self._secrets, token)
        if parsed is None:
            raise ProblemError(Code.UNAUTHENTICATED, "The refresh token is not valid.")
        tenant_id, session_id = parsed
        hashes = self._secrets.macs("refresh-token", tenant_id, token.encode())
        successor = refresh_token.new_token(self._secrets, tenant_id, session_id)
        async with self._database.tenant(tenant_id) as work:
            user_id = await queries.rotate(
                work,
                session_id,
                hashes,
                new_hash=self._secrets.mac("refresh-token", tenant_id, successor.encode()),
                successor_sealed=self._secrets.seal(
                    successor, tenant_id=tenant_id, row_id=session_id, **_SUCCESSOR
                ),
                grace=GRACE,
                idle=IDLE,
                absolute=ABSOLUTE,
            )
            user = await queries.session_user(work, user_id) if user_id else None
            session = await queries.device_session(work, session_id) if user_id is None else None
        if user_id is None or user is None:
            user_id, user, successor = await self._replaced(tenant_id, session_id, session, hashes)
        if not user.active:
            await self.revoke(tenant_id, session_id, "user or tenant shut out")
            raise ProblemError(Code.SESSION_REVOKED, "This account was closed or suspended.")
        identity = self._identity(tenant_id, user_id, session_id, user.role, user.name)
        return self._pair(identity, user.version, successor)

    async def _replaced(
        self,
        tenant_id: UUID,
        session_id: UUID,
        session: queries.DeviceSession | None,
        hashes: Sequence[bytes],
    ) -> tuple[UUID, queries.SessionUser, str]:
        """What a token that is not the current one gets: the successor it was given, or a refusal."""
        if session is None or session.expired:
            raise ProblemError(Code.UNAUTHENTICATED, "The session has expired. Sign in again.")
        if session.revoked:
            raise ProblemError(Code.SESSION_REVOKED)
        if session.previous_hash not in hashes or not session.previous_is_valid:
            # In its own transaction: the refusal that follows must not undo it.
            await self.revoke(tenant_id, session_id, "an old refresh token was used again")
            raise ProblemError(
                Code.SESSION_REVOKED, "An old token was used again, so this device was signed out."
            )
        successor = self._secrets.reveal(
            session.successor_sealed or "", tenant_id=tenant_id, row_id=session_id, **_SUCCESSOR
        )
        async with self._database.tenant(tenant_id) as work:
            user = await queries.session_user(work, session.user_id)
        return session.user_id, user, successor.decode()

    async def revoke(self, tenant_id: UUID, session_id: UUID, reason: str) -> None:
        """End a device session for good, and tell every process."""
        async with self._database.tenant(tenant_id) as work:
            ended = await queries.revoke(work, session_id, reason)
        if ended:
            log.info("session.revoked", tenant_id=str(tenant_id), session_id=str(session_id), reason=reason)
        self._revoked.add(session_id)
        self._doorbell.announce_revoked(session_id)

    def _identity(self, tenant_id: UUID, user_id: UUID, session_id: UUID, role: str, name: str) -> Identity:
        expires_at = clock.now() + ACCESS_TOKEN_LIFETIME
        return Identity(tenant_id, user_id, session_id, role, name, expires_at)

    def _pair(self, identity: Identity, version: int, refresh: str) -> TokenPair:
        access = self._tokens.issue(identity, version=version)
        return TokenPair(access, refresh, int(ACCESS_TOKEN_LIFETIME.total_seconds()))
