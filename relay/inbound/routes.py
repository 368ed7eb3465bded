"""`/webhooks/meta` (the shared Meta app) and `/webhooks/meta/{endpoint_key}` (a tenant's own).

A bare ASGI handler: these are the relay's hottest routes, and a signature needs the raw bytes anyway. It is
a mount, because Litestar routes no requests with path parameters to other bare handlers.
"""

import re
from typing import Final
from urllib.parse import parse_qsl

from litestar import asgi
from litestar.enums import ScopeType
from litestar.types import HTTPScope, Receive, Scope, Send

from relay.inbound.ingest import Ingest, refused
from relay.kit.problem import ProblemError
from relay.meta.signature import HEADER
from shared.limits import WEBHOOK_MAX_BYTES
from shared.wire.problem import Code

_PATH: Final = "/webhooks/meta"
_BELOW: Final = re.compile(r"/(?:(?P<endpoint_key>[^/]+)/)?")
_SIGNATURE: Final = HEADER.lower().encode()
_LENGTH: Final = b"content-length"
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")


class _ClientGoneError(Exception):
    """The sender went away before the body was complete."""


@asgi(_PATH, is_mount=True, copy_scope=False)
async def meta_webhook(scope: Scope, receive: Receive, send: Send) -> None:
    """Meta checks the address with GET and delivers with POST."""
    # Below the mount: "/", "/{endpoint_key}/", or "phor/" of a path that only begins alike.
    below = _BELOW.fullmatch(scope["path"])
    if scope["type"] != ScopeType.HTTP or below is None:
        raise ProblemError(Code.NOT_FOUND)
    endpoint_key: str | None = below["endpoint_key"]
    # For logs and metrics, which a mount would leave without the path.
    scope["path"] = _PATH if endpoint_key is None else f"{_PATH}/{endpoint_key}"
    scope["path_template"] = _PATH if endpoint_key is None else f"{_PATH}/{{endpoint_key}}"
    ingest: Ingest = scope["litestar_app"].state.ingest
    if scope["method"] == "POST":
        try:
            body, signature = await _read(scope, receive)
        except _ClientGoneError:
            return
        await ingest.receive(body, signature, endpoint_key)
        await _answer(send, b"")
    elif scope["method"] == "GET":
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        challenge = await ingest.verify(query, endpoint_key)
        await _answer(send, challenge.encode())
    else:
        raise ProblemError(Code.METHOD_NOT_ALLOWED, headers={"Allow": "GET, POST"})


route_handlers: Final = (meta_webhook,)


async def _read(scope: HTTPScope, receive: Receive) -> tuple[bytes, str | None]:
    """The body, and the signature shown for it. Raises ProblemError once the body is known too large."""
    length, signature = 0, None
    for name, value in scope["headers"]:
        if name == _SIGNATURE:
            signature = value.decode("latin-1")
        elif name == _LENGTH:
            length = int(value)  # the server has refused anything but digits
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        if max(size, length) > WEBHOOK_MAX_BYTES:
            raise refused("too_large", Code.BODY_TOO_LARGE, "A webhook may have 4 MB.")
        message = await receive()
        if message["type"] != "http.request":
            raise _ClientGoneError
        chunks.append(message["body"])
        size += len(message["body"])
        more = message["more_body"]
    if size > WEBHOOK_MAX_BYTES:
        raise refused("too_large", Code.BODY_TOO_LARGE, "A webhook may have 4 MB.")
    return b"".join(chunks), signature


async def _answer(send: Send, body: bytes) -> None:
    headers = [(_LENGTH, str(len(body)).encode()), _TEXT]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
