"""The relay's HTTP interface, with its failures told apart.

`NetworkError`   no answer: no network, a time-out, a page that is not the relay's (hotel Wi-Fi)
`ServerError`    the relay answered 5xx or 429: try again later, after `retry_after` if it says so
`RefusedError`   the relay understood and said no; trying again as it is will not help

The first two are temporary. `maybe_done` says whether the request may have taken effect anyway.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import msgspec

from desktop.errors import UserFacing
from shared import limits
from shared.wire import auth, inbox, sync
from shared.wire.problem import MEDIA_TYPE, Code, Problem

log = logging.getLogger("desktop.api")

T = TypeVar("T")

TIMEOUT: Final = httpx.Timeout(20.0, connect=10.0)
ANSWER_SECONDS: Final = 60.0
"""For a whole answer; httpx's own limits are per read, and a line that drips would never end."""
RETRY_AFTER_MAX_SECONDS: Final = 600.0


class ApiError(UserFacing):
    """A request failed. `temporary`: it may work later without changing anything."""

    temporary = False
    maybe_done = False


class NetworkError(ApiError):
    """The relay did not answer. `maybe_done` unless the connection never came up."""

    code = "unreachable"
    temporary = True

    def __init__(self, title: str, advice: str, *, maybe_done: bool, code: str | None = None) -> None:
        super().__init__(title, advice, code=code)
        self.maybe_done = maybe_done


class ServerError(ApiError):
    """5xx or 429. `retry_after`: seconds the relay asks to wait."""

    temporary = True

    def __init__(
        self, title: str, advice: str, *, code: str, retry_after: float | None, maybe_done: bool
    ) -> None:
        super().__init__(title, advice, code=code)
        self.retry_after = retry_after
        self.maybe_done = maybe_done


class RefusedError(ApiError):
    """4xx with the relay's reason; `problem` is all it said."""

    def __init__(self, problem: Problem) -> None:
        title, advice = words(problem)
        super().__init__(title, advice, code=problem.code)
        self.problem = problem


_ADVICE: Final[dict[str, tuple[str, str]]] = {
    Code.INVALID_CREDENTIALS: ("E-mail or password is wrong.", "Check both and try again."),
    Code.UNAUTHENTICATED: ("The session has ended.", "Sign in again."),
    Code.SESSION_REVOKED: ("This device was signed out.", "Sign in again."),
    Code.FORBIDDEN: ("You may not do this.", "Ask an admin of your team for access."),
    Code.NOT_FOUND: (
        "This no longer exists, or you no longer have access.",
        "Ask an admin of your team if you need it.",
    ),
    Code.WINDOW_CLOSED: (
        "The 24-hour window of this customer is closed.",
        "Wait until they write again, or send a template.",
    ),
    Code.CLIENT_ID_REUSED: (
        "Another message was already sent under this number.",
        "Copy the text and send it as a new message.",
    ),
    Code.BODY_TOO_LARGE: ("This is too large to send.", "Shorten it and send it again."),
    Code.INVALID_REQUEST: ("The relay could not accept this.", "Change it and try again."),
    Code.RATE_LIMITED: ("Too many requests.", "Relaydesk tries again by itself."),
    Code.UNAVAILABLE: ("The relay is not available.", "Relaydesk tries again by itself."),
    Code.INTERNAL: ("The relay had a problem.", "Relaydesk tries again by itself."),
}


def words(problem: Problem) -> tuple[str, str]:
    """(what happened, what can be done), from our own words where we have them, else the relay's."""
    title, advice = _ADVICE.get(problem.code, (problem.title, problem.detail))
    if problem.code == Code.INVALID_REQUEST and problem.errors:
        advice = "; ".join(error.detail for error in problem.errors)
    return title, advice


def is_local(relay_url: str) -> bool:
    """Whether the relay is on this computer, where no proxy of the environment can reach it."""
    return urlsplit(relay_url).hostname in {"localhost", "127.0.0.1", "::1"}


class Api:
    """One relay, for one session."""

    def __init__(
        self,
        relay_url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.relay_url = relay_url
        self._bearer: Callable[[str | None], Awaitable[str]] | None = None
        self._client = httpx.AsyncClient(
            base_url=relay_url,
            timeout=TIMEOUT,
            transport=transport,
            trust_env=not is_local(relay_url),
            headers={"Accept": "application/json", "User-Agent": "Relaydesk"},
        )

    def authorize(self, bearer: Callable[[str | None], Awaitable[str]]) -> None:
        """Where access tokens come from: called with None, or with the token that was just rejected."""
        self._bearer = bearer

    async def close(self) -> None:
        await self._client.aclose()

    # --- session ---

    async def login(self, request: auth.LoginRequest) -> auth.TokenPair:
        return await self._ask("POST", "/api/v1/auth/login", auth.TokenPair, body=request, signed=False)

    async def refresh(self, refresh_token: str) -> auth.TokenPair:
        request = auth.RefreshRequest(refresh_token)
        return await self._ask("POST", "/api/v1/auth/refresh", auth.TokenPair, body=request, signed=False)

    async def logout(self) -> None:
        await self._ask("POST", "/api/v1/auth/logout", None)

    async def me(self, token: str | None = None) -> auth.Me:
        """Who is signed in; `token`: of a sign-in that is not a session yet."""
        return await self._ask("GET", "/api/v1/me", auth.Me, token=token)

    # --- feed ---

    async def snapshot(self, cursor: str | None) -> sync.Snapshot:
        params: dict[str, Any] = {"limit": limits.SNAPSHOT_PAGE_MAX}
        if cursor is not None:
            params["cursor"] = cursor
        return await self._ask("GET", "/api/v1/sync/snapshot", sync.Snapshot, params=params)

    async def changes(self, after: int, epoch: UUID) -> sync.Changes:
        params = {"after": after, "epoch": str(epoch)}
        return await self._ask("GET", "/api/v1/sync/changes", sync.Changes, params=params)

    # --- inbox ---

    async def messages(self, conversation_id: UUID, before: str | None, limit: int) -> inbox.MessagePage:
        params: dict[str, Any] = {"limit": limit}
        if before is not None:
            params["before"] = before
        path = f"/api/v1/conversations/{conversation_id}/messages"
        return await self._ask("GET", path, inbox.MessagePage, params=params)

    async def send(self, conversation_id: UUID, request: inbox.SendMessageRequest) -> inbox.Message:
        path = f"/api/v1/conversations/{conversation_id}/messages"
        return await self._ask("POST", path, inbox.Message, body=request)

    async def send_again(
        self, conversation_id: UUID, message_id: UUID, *, may_arrive_twice: bool
    ) -> inbox.Message:
        path = f"/api/v1/conversations/{conversation_id}/messages/{message_id}/retry"
        return await self._ask("POST", path, inbox.Message, body=inbox.SendAgainRequest(may_arrive_twice))

    async def mark_not_sent(self, conversation_id: UUID, message_id: UUID) -> inbox.Message:
        path = f"/api/v1/conversations/{conversation_id}/messages/{message_id}/not-sent"
        return await self._ask("POST", path, inbox.Message)

    async def mark_read(self, conversation_id: UUID, message_id: UUID) -> None:
        path = f"/api/v1/conversations/{conversation_id}/read"
        await self._ask("POST", path, None, body=inbox.MarkReadRequest(message_id))

    # --- transport ---

    async def _ask(
        self,
        method: str,
        path: str,
        answer: type[T] | None,
        *,
        params: dict[str, Any] | None = None,
        body: msgspec.Struct | None = None,
        signed: bool = True,
        token: str | None = None,
    ) -> T:
        if signed and self._bearer:
            token = await self._bearer(None)
        response = await self._send(method, path, params, body, token)
        if token is not None and self._bearer and _token_rejected(response):
            # Ended early (the relay's clock, a changed key) or revoked: a refresh tells which.
            token = await self._bearer(token)
            response = await self._send(method, path, params, body, token)
        return _result(response, answer)

    async def _send(
        self,
        method: str,
        path: str,
        params: dict[str, Any] | None,
        body: msgspec.Struct | None,
        token: str | None,
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._client.request(
                    method, path, params=params, content=content, headers=headers
                )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _no_connection(maybe_done=False) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise NetworkError(
                "This is not the address of a relay.",
                "It looks like https://relay.example.com.",
                maybe_done=False,
                code="bad_address",
            ) from error
        except (httpx.RequestError, TimeoutError) as error:
            raise _no_connection(maybe_done=True) from error


def _token_rejected(response: httpx.Response) -> bool:
    if response.status_code == HTTPStatus.FORBIDDEN:
        return _problem(response).code == Code.SESSION_REVOKED
    return response.status_code == HTTPStatus.UNAUTHORIZED


def _no_connection(*, maybe_done: bool) -> NetworkError:
    return NetworkError(
        "The relay cannot be reached.",
        "Check your internet connection. Relaydesk tries again by itself.",
        maybe_done=maybe_done,
    )


def _result(response: httpx.Response, answer: type[T] | None) -> T:
    if response.is_success:
        if answer is None:
            return None  # type: ignore[return-value]  # asked for nothing
        try:
            return msgspec.json.decode(response.content, type=answer)
        except msgspec.DecodeError as error:
            if not response.headers.get("content-type", "").startswith("application/json"):
                raise _not_the_relay(response) from error
            log.exception("the relay's answer to %s could not be read", response.request.url.path)
            raise ServerError(
                "The relay's answer could not be understood.",
                "Update Relaydesk. It tries again by itself.",
                code="not_understood",
                retry_after=None,
                maybe_done=True,
            ) from error
    problem = _problem(response)
    if response.status_code >= 500 or response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        title, advice = words(problem)
        raise ServerError(
            title,
            advice,
            code=problem.code,
            retry_after=_retry_after(response),
            maybe_done=response.status_code >= 500,
        )
    raise RefusedError(problem)


def _problem(response: httpx.Response) -> Problem:
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        try:
            return msgspec.json.decode(response.content, type=Problem)
        except msgspec.DecodeError as error:
            log.warning("the relay's problem could not be read: %s", error)
            raw = _loose_problem(response)
            if raw is not None:
                return raw
    if response.status_code >= 500:
        # A proxy in front of a relay that is down answers in its own words.
        return Problem(
            title="The relay is not available.", status=response.status_code, code=Code.UNAVAILABLE
        )
    raise _not_the_relay(response)


def _loose_problem(response: httpx.Response) -> Problem | None:
    """A problem with a code that this version does not know yet, by its status."""
    try:
        raw = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        return None
    if not isinstance(raw, dict):
        return None
    code = Code.INTERNAL if response.status_code >= 500 else Code.CONFLICT
    return Problem(
        title=str(raw.get("title", "The relay refused this.")),
        status=response.status_code,
        code=code,
        detail=str(raw.get("detail", "")),
    )


def _not_the_relay(response: httpx.Response) -> NetworkError:
    page = re.sub(r"\s+", " ", response.text[:200])
    log.warning("not an answer of the relay: %d %s", response.status_code, page)
    return NetworkError(
        "Something else answers instead of the relay.",
        "A network that asks you to sign in (hotel, café) does this: open a web page, then come back.",
        maybe_done=False,
        code="not_the_relay",
    )


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, capped. The form with a date is not used by the relay."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS)
