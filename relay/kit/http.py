"""What every HTTP answer has: a request id, security headers, a line in the log, a place in the metrics."""

import re
import time
from functools import lru_cache
from typing import Final

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Counter, Histogram

from relay.kit import ids, metrics

log = structlog.get_logger(__name__)

REQUEST_ID_HEADER: Final = "X-Request-ID"
_REQUEST_ID_NAME: Final = REQUEST_ID_HEADER.lower().encode()
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_-]{8,64}")
_QUIET_PATHS: Final = ("/health/", "/metrics")
_SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""Written as they travel: thousands of webhooks a second pass here."""


class RequestContext:
    """Wraps the whole application, so that requests which match no route are seen too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message["headers"])
                given = {name.lower() for name, _ in headers}
                headers.append((_REQUEST_ID_NAME, request_id.encode()))
                headers.extend(header for header in _SECURITY_HEADERS if header[0] not in given)
                message["headers"] = headers
                _observe(scope, status, time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _request_id(scope: Scope) -> str:
    """The caller's own id where it sent a sensible one, so that a proxy's log and ours can be joined."""
    for name, value in scope["headers"]:
        if name == _REQUEST_ID_NAME and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return str(ids.new_id())


def _observe(scope: Scope, status: int, seconds: float) -> None:
    method = str(scope.get("method", ""))
    # The template, not the path: ids in labels would never end. Unknown paths share one label.
    route = str(scope.get("path_template") or "unmatched")
    requests, durations = _series(method, route, status)
    requests.inc()
    durations.observe(seconds)
    path = scope["path"]
    # Webhooks that were taken are counted; a line for each would drown all others.
    if path.startswith(_QUIET_PATHS) or (status == 200 and path.startswith("/webhooks/")):
        return
    emit = log.info if status < 500 else log.warning
    emit("request", method=method, path=path, status=status, ms=round(seconds * 1000, 1))


@lru_cache(maxsize=1024)
def _series(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return metrics.http_requests.labels(method, route, status), metrics.http_seconds.labels(method, route)
