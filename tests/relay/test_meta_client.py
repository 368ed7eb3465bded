"""The Graph client against real sockets that misbehave: which failures prove that nothing was sent."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from relay.meta.graph import Accepted, Credentials, GraphClient, NotSent, Refused, SendResult, Unknown

SENDER = Credentials("720193847561029", "EAAtoken")
BODY = {"type": "text", "text": {"body": "héllo"}}
ACCEPTED = b'{"messages":[{"id":"wamid.A"}]}'

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    return head + await reader.readexactly(length)


def answer(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


@asynccontextmanager
async def meta(handler: Handler) -> AsyncIterator[str]:
    """A server that treats every connection with `handler`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def send(base_url: str, total_seconds: float = 20.0) -> SendResult:
    async with GraphClient(base_url, "v26.0", total_seconds=total_seconds) as client:
        return await client.send_message(SENDER, BODY)


async def test_the_request_is_what_meta_expects() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(answer("200 OK", ACCEPTED))
        await writer.drain()

    async with meta(handler) as url:
        assert await send(url + "/") == Accepted("wamid.A")
    (request,) = seen
    assert request.startswith(b"POST /v26.0/720193847561029/messages HTTP/1.1\r\n")
    assert b"Authorization: Bearer EAAtoken\r\n" in request
    assert request.endswith('{"type":"text","text":{"body":"héllo"}}'.encode())


async def test_connections_are_reused() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            writer.write(answer("200 OK", ACCEPTED))

    async with meta(handler) as url, GraphClient(url, "v26.0") as client:
        for _ in range(40):
            assert isinstance(await client.send_message(SENDER, BODY), Accepted)
    assert connections == 8  # one in each pool


async def test_nobody_listens_is_certainly_not_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = await send(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert isinstance(result, NotSent)


async def test_a_name_that_does_not_resolve_is_certainly_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_such_name(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_such_name)
    assert isinstance(await send("http://graph.example.invalid"), NotSent)


async def test_a_server_without_tls_is_certainly_not_sent() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"not a handshake")

    async with meta(handler) as url:
        assert isinstance(await send(url.replace("http:", "https:")), NotSent)


async def test_a_reset_before_reading_is_unknown() -> None:
    async def handler(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    async with meta(handler) as url:
        assert isinstance(await send(url), Unknown)


async def test_closing_after_reading_is_unknown() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with meta(handler) as url:
        assert isinstance(await send(url), Unknown)


async def test_half_an_answer_is_unknown() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer("200 OK", ACCEPTED)[:-5])
        await writer.drain()

    async with meta(handler) as url:
        assert isinstance(await send(url), Unknown)


async def test_an_answer_that_trickles_in_too_slowly_is_unknown() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in answer("200 OK", ACCEPTED):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)

    async with meta(handler) as url:
        assert isinstance(await send(url, total_seconds=0.3), Unknown)


async def test_a_redirect_is_not_followed() -> None:
    requests = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1
        writer.write(b"HTTP/1.1 307 Elsewhere\r\nLocation: /v26.0/elsewhere\r\nContent-Length: 0\r\n\r\n")

    async with meta(handler) as url:
        assert isinstance(await send(url), Unknown)
    assert requests == 1


async def test_a_refusal_keeps_what_meta_said() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(
            answer("400 Bad Request", b'{"error":{"code":131047,"message":"(#131047) Re-engagement"}}')
        )

    async with meta(handler) as url:
        assert await send(url) == Refused(400, 131047, details="(#131047) Re-engagement")
