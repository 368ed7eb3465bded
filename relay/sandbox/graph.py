"""Meta's face: a bare ASGI app, because in Graph every path is an id and every answer has Graph's shape."""

import asyncio
import logging
import re
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from relay.sandbox import defaults
from relay.sandbox.errors import GraphError, no_such_object
from relay.sandbox.faults import Fault
from relay.sandbox.outbound import StruckError
from relay.sandbox.sandbox import Sandbox
from relay.sandbox.state import App, Number, Token, Waba
from relay.sandbox.webhooks import meta_json

log = logging.getLogger("relay.sandbox.graph")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Node = App | Waba | Number

TRANSPORT: Final = "relay.sandbox.transport"
"""The key in `scope["extensions"]` under which the server hands out the connection, so that it can be cut."""

BODY_MAX_BYTES: Final = 16 * 1024 * 1024
_VERSION: Final = re.compile(r"v\d+(\.\d+)?")
_HTML_ERROR: Final = (
    b"<!DOCTYPE html><html><head><title>Error</title></head><body>Sorry, something went wrong.</body></html>"
)


@dataclass(slots=True)
class Call:
    """A request to Graph whose token is known."""

    sandbox: Sandbox
    method: str
    version: str
    params: dict[str, Any]
    """Query and body together."""
    token: Token
    base_url: str


@dataclass(slots=True)
class Reply:
    """A successful answer. `faults` are those that spoil it."""

    body: dict[str, Any]
    faults: list[Fault]


Handler = Callable[[Call, Any], Awaitable[Reply | dict[str, Any]]]


class Graph:
    """`routes`: (node type, method, edge) → handler; `root_routes`: (method, path) → handler of no node."""

    def __init__(
        self,
        sandbox: Sandbox,
        routes: dict[tuple[type[Node], str, str], Handler],
        root_routes: dict[tuple[str, str], Handler],
    ) -> None:
        self._sandbox = sandbox
        self._routes = routes
        self._root_routes = root_routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        version, segments = _split_path(scope["path"])
        faults: list[Fault] = []
        headers: list[tuple[bytes, bytes]] = []
        try:
            reply = await self._answer(scope, await _read(receive), version, segments)
            status, document = 200, reply
            if isinstance(reply, Reply):
                document, faults = reply.body, reply.faults
        except StruckError as struck:
            if struck.fault.kind == "http_error":
                await _respond(send, struck.fault.http_status, _HTML_ERROR, [(b"content-type", b"text/html")])
            else:
                await _cut(scope, receive, send, struck.fault.cut, _HTML_ERROR)
            return
        except GraphError as error:
            status, document = error.status, error.envelope(self._sandbox.ids.fbtrace_id())
            if status == 401:
                challenge = f'OAuth "Facebook Platform" "invalid_token" "{error.words}"'
                headers.append((b"www-authenticate", challenge.encode()))
        except Exception:  # the last resort: whatever breaks here must still look like Meta
            log.exception("%s %s broke", scope["method"], scope["path"])
            self._sandbox.internal_errors += 1
            status, document = 500, GraphError(1).envelope(self._sandbox.ids.fbtrace_id())
        body = meta_json(document)
        headers += _standard_headers(self._sandbox, version)
        for fault in faults:
            if fault.kind == "delay":
                await asyncio.sleep(fault.seconds)
        for fault in faults:
            if fault.kind == "drop_after":
                await _cut(scope, receive, send, fault.cut, body)
                return
        await _respond(send, status, body, headers)

    async def _answer(
        self, scope: Scope, body: bytes, version: str, segments: list[str]
    ) -> Reply | dict[str, Any]:
        method: str = scope["method"]
        headers = {name: value for name, value in scope["headers"] if name in _HEADERS_READ}
        params: dict[str, Any] = dict(
            parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        )
        params |= _body_params(body, headers.get(b"content-type", b""))
        token_text = _token_text(headers.get(b"authorization", b""), params)
        host = headers.get(b"host", b"127.0.0.1").decode("latin-1")
        base_url = f"{scope.get('scheme', 'http')}://{host}"

        path = "/".join(segments)
        root = self._root_routes.get((method, path))
        if root is not None and path == "oauth/access_token":  # the one call that brings no token
            token = Token("", App("", "", ""), set())
            return await root(Call(self._sandbox, method, version, params, token, base_url), None)
        token = self._token(token_text)
        call = Call(self._sandbox, method, version, params, token, base_url)
        if root is not None:
            return await root(call, None)
        if not segments or len(segments) > 2:
            self._count_unknown(method, path)
            raise GraphError(2500, message=f"Unknown path components: /{path}")
        node = self._node(segments[0], token)
        edge = segments[1] if len(segments) == 2 else ""
        if node is None:
            raise no_such_object(method, segments[0])
        handler = self._routes.get((type(node), method, edge))
        if handler is None:
            self._count_unknown(method, f"{{{type(node).__name__.lower()}}}/{edge}")
            if method == "GET" and edge:
                kind = _NODE_TYPES[type(node)]
                raise GraphError(
                    100, message=f"Tried accessing nonexisting field ({edge}) on node type ({kind})"
                )
            raise no_such_object(method, segments[0])
        return await handler(call, node)

    def _token(self, text: str | None) -> Token:
        if not text:
            raise GraphError(104)
        world = self._sandbox.world
        app_id, bar, secret = text.partition("|")
        app = world.apps.get(app_id) if bar else None
        if app is not None and secrets.compare_digest(app.secret.encode(), secret.encode()):
            wabas = {waba.id for waba in world.wabas.values() if app.id in waba.subscriptions}
            return Token(text, app, wabas, app_token=True)
        if text not in world.tokens:
            raise GraphError(190)
        return world.tokens[text]

    def _node(self, object_id: str, token: Token) -> Node | None:
        """The object, or None: unknown and not allowed are the same to the caller."""
        world = self._sandbox.world
        if (number := world.numbers.get(object_id)) is not None:
            return number if number.waba.id in token.waba_ids else None
        if (waba := world.wabas.get(object_id)) is not None:
            return waba if waba.id in token.waba_ids else None
        app = world.apps.get(object_id)
        return app if app is not None and app.id == token.app.id else None

    def _count_unknown(self, method: str, path: str) -> None:
        unknown = self._sandbox.unknown_calls
        name = f"{method} {path}"
        if name in unknown or len(unknown) < 1000:
            unknown[name] = unknown.get(name, 0) + 1


_HEADERS_READ: Final = frozenset({b"authorization", b"content-type", b"host"})
_NODE_TYPES: Final = {
    App: "Application",
    Waba: "WhatsAppBusinessAccount",
    Number: "WhatsAppBusinessPhoneNumber",
}


def _split_path(path: str) -> tuple[str, list[str]]:
    segments = [segment for segment in path.split("/") if segment]
    if segments and _VERSION.fullmatch(segments[0]):
        return segments[0], segments[1:]
    return defaults.GRAPH_VERSION, segments


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > BODY_MAX_BYTES:
            raise GraphError(1, "The request is too large.", status=413)
        if not message.get("more_body", False):
            return bytes(body)


def _body_params(body: bytes, content_type: bytes) -> dict[str, Any]:
    """Parameters from JSON or a form; like Graph, none at all from a body that is not what it says it is."""
    if not body:
        return {}
    if content_type.startswith(b"application/x-www-form-urlencoded"):
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        return {name: _form_value(value) for name, value in pairs}
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _form_value(text: str) -> Any:
    """Objects and lists travel in forms as JSON."""
    if text[:1] not in {"{", "["}:
        return {"true": True, "false": False}.get(text, text)
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _token_text(authorization: bytes, params: dict[str, Any]) -> str | None:
    in_params = params.pop("access_token", None)
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    if scheme.lower() in {"bearer", "oauth"}:
        return token.strip()
    return in_params if isinstance(in_params, str) else None


def _standard_headers(sandbox: Sandbox, version: str) -> list[tuple[bytes, bytes]]:
    trace = sandbox.ids.fbtrace_id().encode()
    return [
        (b"content-type", b"application/json; charset=UTF-8"),
        (b"facebook-api-version", version.encode()),
        (b"x-fb-request-id", trace),
        (b"x-fb-trace-id", trace),
        (b"cache-control", b"private, no-cache, no-store, must-revalidate"),
    ]


async def _respond(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _cut(scope: Scope, receive: Receive, send: Send, how: str, body: bytes) -> None:
    """End the connection in place of an answer, and wait until the server has noticed."""
    transport: asyncio.Transport = scope["extensions"][TRANSPORT]
    if how == "half":
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        transport.close()
    elif how == "close":
        transport.close()
    else:
        connection = transport.get_extra_info("socket")
        if connection.fileno() >= 0:  # the caller may have hung up already
            # Closing with a linger time of 0 sends a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
