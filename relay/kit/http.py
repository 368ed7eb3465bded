"""What every HTTP answer has: a request id, security headers, a line in the log, a place in the metrics."""

import re
import time
from typing import Final

import structlog
from litestar.datastructures import MutableScopeHeaders
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from relay.kit import ids, metrics

log = structlog.get_logger(__name__)

REQUEST_ID_HEADER: Final = "X-Request-ID"
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_-]{8,64}")
_QUIET_PATHS: Final = ("/health/", "/metrics")
_SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Strict-Transport-Security": "max-age=31536000",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


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
                headers = MutableScopeHeaders.from_message(message)
                headers[REQUEST_ID_HEADER] = request_id
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                _observe(scope, status, time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _request_id(scope: Scope) -> str:
    """The caller's own id where it sent a sensible one, so that a proxy's log and ours can be joined."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return str(ids.new_id())


def _observe(scope: Scope, status: int, seconds: float) -> None:
    method = str(scope.get("method", ""))
    # The template, not the path: ids in labels would never end. Unknown paths share one label.
    route = str(scope.get("path_template") or "unmatched")
    metrics.http_requests.labels(method, route, status).inc()
    metrics.http_seconds.labels(method, route).observe(seconds)
    if scope["path"].startswith(_QUIET_PATHS):
        return
    emit = log.info if status < 500 else log.warning
    emit("request", method=method, path=scope["path"], status=status, ms=round(seconds * 1000, 1))
