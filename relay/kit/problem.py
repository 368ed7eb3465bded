"""Errors on HTTP: every one of them is RFC 9457 problem+json with a stable code.

Raise `ProblemError` where the rule is broken; `exception_handlers` turns it, and everything Litestar or the
database raises, into an answer.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.wire.problem import MEDIA_TYPE, Code, FieldError, Problem

log = structlog.get_logger(__name__)

DEFAULTS: Final[dict[Code, tuple[int, str]]] = {
    Code.INVALID_REQUEST: (400, "The request is not valid"),
    Code.INVALID_CURSOR: (400, "The cursor is not valid"),
    Code.INVALID_CREDENTIALS: (401, "E-mail or password is wrong"),
    Code.UNAUTHENTICATED: (401, "Sign in first"),
    Code.SESSION_REVOKED: (401, "This device was signed out"),
    Code.FORBIDDEN: (403, "Not allowed"),
    Code.NOT_FOUND: (404, "Not found"),
    Code.METHOD_NOT_ALLOWED: (405, "Method not allowed"),
    Code.CONFLICT: (409, "The request contradicts the current state"),
    Code.CLIENT_ID_REUSED: (409, "This client id belongs to something else"),
    Code.WINDOW_CLOSED: (409, "The 24-hour window is closed"),
    Code.RESYNC_REQUIRED: (410, "Start again from a snapshot"),
    Code.BODY_TOO_LARGE: (413, "The body is too large"),
    Code.UNSUPPORTED_MEDIA_TYPE: (415, "Unsupported media type"),
    Code.BAD_SIGNATURE: (401, "The signature does not fit the body"),
    Code.NOT_JSON: (400, "The body is not JSON"),
    Code.RATE_LIMITED: (429, "Too many requests"),
    Code.UNAVAILABLE: (503, "Temporarily unavailable"),
    Code.INTERNAL: (500, "Something went wrong on our side"),
}
"""Status and title of each code, unless the raiser says otherwise."""

_BY_STATUS: Final[dict[int, Code]] = {
    401: Code.UNAUTHENTICATED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    409: Code.CONFLICT,
    413: Code.BODY_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
    429: Code.RATE_LIMITED,
    503: Code.UNAVAILABLE,
}

# The database is out of reach, restarting, full, or too slow: worth another try, not a fault of ours.
_OPERATIONAL = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.DiskFullError,
)
RETRY_AFTER_SECONDS: Final = 2


class ProblemError(Exception):
    """A request that cannot be served, in words for people and a code for programs.

    `extra` travels to the client as it is; never put secrets or other tenants' data into it.
    """

    def __init__(
        self,
        code: Code,
        detail: str = "",
        *,
        status: int | None = None,
        title: str | None = None,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or code.value)
        self.code = code
        self.detail = detail
        self.status = status or DEFAULTS[code][0]
        self.title = title or DEFAULTS[code][1]
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def problem(self, instance: str = "") -> Problem:
        """The body to send; `instance` is the request's id."""
        return Problem(
            title=self.title,
            status=self.status,
            code=self.code,
            detail=self.detail,
            instance=instance,
            errors=self.errors,
            extra=self.extra,
        )


def _response(request: Request[Any, Any, Any], problem: ProblemError) -> Response[bytes]:
    instance = str(request.scope.get("state", {}).get("request_id", ""))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        problem.headers.setdefault("WWW-Authenticate", "Bearer")
    return Response(
        msgspec.json.encode(problem.problem(instance)),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def _on_problem(request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    return _response(request, error)


def _on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR and error.status_code not in _BY_STATUS:
        return _on_unexpected(request, error)
    code = _BY_STATUS.get(error.status_code, Code.INVALID_REQUEST)
    # Litestar's words for a route's own status ("Not Found") add nothing to the title.
    phrase = HTTPStatus(error.status_code).phrase
    detail = "" if error.detail.casefold() == phrase.casefold() else error.detail
    fields = _field_errors(error) if isinstance(error, ValidationException) else []
    if fields:
        detail = ""
    return _response(
        request,
        ProblemError(code, detail, status=error.status_code, errors=fields, headers=error.headers),
    )


def _field_errors(error: ValidationException) -> list[FieldError]:
    """What Litestar found wrong, as pointers: `/content/body` in the body, or a parameter's name."""
    found = []
    for entry in error.extra if isinstance(error.extra, list) else []:
        key = str(entry.get("key", ""))
        in_body = entry.get("source", "body") == "body"
        # `data` is Litestar's name for the body as a whole, whose pointer is the empty one.
        key = "" if in_body and key == "data" else key
        pointer = f"/{key.replace('.', '/')}" if in_body and key else key
        found.append(FieldError(pointer, str(entry.get("message", ""))))
    return found


def is_operational(error: BaseException) -> bool:
    """Whether the database could not serve us for now, rather than a bug having been found."""
    # OSError: connection refused or lost, time out, or no socket while the server is down.
    if isinstance(error, PoolTimeoutError | InterfaceError | OSError):
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    # SQLAlchemy wraps the driver's error in its own, with the driver's as the cause.
    return isinstance(cause, _OPERATIONAL) or isinstance(getattr(cause, "__cause__", None), _OPERATIONAL)


def _on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if is_operational(error):
        log.warning("database.unavailable", path=request.scope["path"], error=repr(error))
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return _response(request, ProblemError(Code.UNAVAILABLE, "Try again in a moment.", headers=headers))
    log.error("request.failed", path=request.scope["path"], method=request.method, exc_info=error)
    return _response(request, ProblemError(Code.INTERNAL, "The error was logged under this request's id."))


exception_handlers: Final[ExceptionHandlersMap] = {
    ProblemError: _on_problem,
    HTTPException: _on_http_exception,
    Exception: _on_unexpected,
}
