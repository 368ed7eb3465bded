"""A relay for tests of the client: the wire contract over real HTTP and sockets, with faults on demand.

`FakeRelay` holds the state and answers requests; `fake_relay_server` serves it by uvicorn in a thread, or
hands requests over without sockets. Every change appends to the feed, as the relay does.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any, NamedTuple
from urllib.parse import parse_qs
from uuid import UUID, uuid4

import msgspec
from uuid_utils.compat import uuid7

from shared.content import TextContent, summary
from shared.delivery import DeliveryStatus, advance
from shared.wire import auth, inbox, problem, sync

EMAIL = "sara@example.com"
PASSWORD = "correct horse"
START = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)

ME = auth.Me(
    user=auth.UserInfo(uuid7(), EMAIL, "Sara", "agent"),
    tenant=auth.TenantInfo(uuid7(), "Flowers"),
    numbers=[auth.NumberInfo(uuid7(), "100", "+49 30 1234")],
)


class Fault(Enum):
    """What happens to one request."""

    LOST = auto()
    """Never reaches the relay; the connection breaks."""
    ANSWER_LOST = auto()
    """Is carried out, but its answer never arrives."""
    ERROR_500 = auto()
    UNAVAILABLE = auto()
    RATE_LIMITED = auto()
    CAPTIVE_PORTAL = auto()
    """Somebody else answers 200 with a web page."""
    GARBAGE = auto()
    """200 with JSON that is not the answer."""
    REFUSED = auto()
    """403 with a reason."""
    WINDOW_CLOSED = auto()
    REVOKED = auto()


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


class Request(NamedTuple):
    method: str
    path: str
    query: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Lost(Exception):  # noqa: N818 - not an error of the program
    """No answer for this request."""


@dataclass
class Planned:
    method: str
    path_part: str
    fault: Fault


class Socket:
    """One live connection, in the server's loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.frames: list[sync.ServerFrame] = []
        self.close_code: int | None = None
        self.mute = False
        self.heard: list[sync.ClientFrame] = []

    def wake(self) -> None:
        self._loop.call_soon_threadsafe(self._news.set)

    async def news(self) -> None:
        await self._news.wait()
        self._news.clear()


class FakeRelay:
    """One tenant, one agent. Methods named as what happens: `customer_writes`, `status`, `restore`."""

    def __init__(self, *, snapshot_page: int = 1_000, token_seconds: int = 600) -> None:
        self.lock = threading.RLock()
        self.epoch = uuid4()
        self.floor = 0
        self.feed: list[tuple[str, UUID]] = []  # seq is the index + 1
        self.conversations: dict[UUID, inbox.Conversation] = {}
        self.messages: dict[UUID, inbox.Message] = {}
        self.by_client_id: dict[UUID, UUID] = {}
        self.arrivals: list[UUID] = []
        """Client ids in the order in which messages were taken, one entry for each message created."""
        self.requests: list[tuple[str, str]] = []
        self.planned: list[Planned] = []
        self.access_tokens: set[str] = set()
        self.refresh_tokens: set[str] = set()
        self.refreshes = 0
        self.revoked = False
        self.unknown_session = False
        self.down = False
        self.sockets_refused = False
        self.snapshot_page = snapshot_page
        self.token_seconds = token_seconds
        self.before_answer: Callable[[Request], None] | None = None
        self.sockets: list[Socket] = []
        self._now = START

    # --- what happens at the relay ---

    @property
    def head(self) -> int:
        return len(self.feed)

    def tick(self, seconds: float = 1.0) -> datetime:
        self._now += timedelta(seconds=seconds)
        return self._now

    def fail(self, method: str, path_part: str, *faults: Fault) -> None:
        """The next requests of this kind meet these faults, one each."""
        with self.lock:
            self.planned += [Planned(method, path_part, fault) for fault in faults]

    def add_conversation(self, name: str = "Ana", phone: str | None = "+491700000001") -> UUID:
        with self.lock:
            contact = inbox.Contact(uuid7(), name, phone)
            row = inbox.Conversation(
                id=uuid7(),
                number_id=ME.numbers[0].id,
                contact=contact,
                last_activity_at=self.tick(),
                version=0,
            )
            self._put_conversation(row)
            return row.id

    def customer_writes(
        self, conversation_id: UUID, text: str, sent_at: datetime | None = None
    ) -> inbox.Message:
        with self.lock:
            conversation = self.conversations[conversation_id]
            message = inbox.Message(
                id=uuid7(),
                conversation_id=conversation_id,
                direction=inbox.Direction.INBOUND,
                content=TextContent(text),
                status=DeliveryStatus.RECEIVED,
                sent_at=sent_at or self.tick(),
                version=0,
                wamid=f"wamid.{uuid4()}",
            )
            self._put_message(message)
            self._put_conversation(
                msgspec.structs.replace(
                    conversation,
                    unread_count=conversation.unread_count + 1,
                    last_inbound_at=max(message.sent_at, conversation.last_inbound_at or START),
                )
            )
            return message

    def status(self, message_id: UUID, status: DeliveryStatus) -> None:
        with self.lock:
            message = self.messages[message_id]
            self._put_message(msgspec.structs.replace(message, status=advance(message.status, status)))

    def remove_message(self, message_id: UUID) -> None:
        with self.lock:
            del self.messages[message_id]
            self._changed("message", message_id)

    def remove_conversation(self, conversation_id: UUID) -> None:
        with self.lock:
            for message in self.timeline(conversation_id):
                self.remove_message(message.id)
            del self.conversations[conversation_id]
            self._changed("conversation", conversation_id)

    def expire_cursors(self) -> None:
        """Compaction: everything before the head is gone from the feed."""
        with self.lock:
            self.floor = self.head

    def restore(self, lost_messages: int = 0) -> None:
        """As after a restore from a backup: another epoch, versions begin again, the newest is lost."""
        with self.lock:
            for message in sorted(self.messages.values(), key=_position)[
                len(self.messages) - lost_messages :
            ]:
                del self.messages[message.id]
                if message.client_id:
                    del self.by_client_id[message.client_id]
            self.epoch = uuid4()
            self.floor = 0
            self.feed = []
            for row in list(self.conversations.values()):
                self._put_conversation(msgspec.structs.replace(row, version=0))
            for message in list(self.messages.values()):
                self._put_message(msgspec.structs.replace(message, version=0))

    def revoke(self) -> None:
        with self.lock:
            self.revoked = True
            self.access_tokens.clear()
            self.refresh_tokens.clear()
            self._tell_sockets()

    def timeline(self, conversation_id: UUID) -> list[inbox.Message]:
        """Oldest first."""
        found = [m for m in self.messages.values() if m.conversation_id == conversation_id]
        return sorted(found, key=_position)

    def _put_message(self, message: inbox.Message) -> None:
        message = msgspec.structs.replace(message, version=message.version + 1)
        self.messages[message.id] = message
        self._changed("message", message.id)

    def _put_conversation(self, row: inbox.Conversation) -> None:
        newest = self.timeline(row.id)[-1:]
        for message in newest:
            row = msgspec.structs.replace(
                row,
                last_activity_at=message.sent_at,
                last_message=inbox.LastMessage(
                    message.id,
                    message.direction,
                    summary(message.content),
                    message.status,
                    message.sent_at,
                ),
            )
        row = msgspec.structs.replace(row, version=row.version + 1)
        self.conversations[row.id] = row
        self._changed("conversation", row.id)

    def _changed(self, kind: str, entity_id: UUID) -> None:
        self.feed.append((kind, entity_id))
        self._tell_sockets()

    def _tell_sockets(self) -> None:
        for socket in self.sockets:
            socket.wake()

    # --- requests ---

    def handle(self, request: Request) -> Answer:
        """The answer to one request. Raises `Lost` where none arrives."""
        with self.lock:
            self.requests.append((request.method, request.path))
            if self.down:
                raise Lost
            planned = next(
                (p for p in self.planned if p.method == request.method and p.path_part in request.path), None
            )
            if planned is not None:
                self.planned.remove(planned)
                return self._faulty(planned.fault, request)
            answer = self._carry_out(request)
            if self.before_answer is not None:
                self.before_answer(request)
            return answer

    def _faulty(self, fault: Fault, request: Request) -> Answer:
        match fault:
            case Fault.LOST:
                raise Lost
            case Fault.ANSWER_LOST:
                self._carry_out(request)
                raise Lost
            case Fault.ERROR_500:
                return _problem(500, problem.Code.INTERNAL)
            case Fault.UNAVAILABLE:
                answer = _problem(503, problem.Code.UNAVAILABLE)
                answer.headers["retry-after"] = "0"
                return answer
            case Fault.RATE_LIMITED:
                answer = _problem(429, problem.Code.RATE_LIMITED)
                answer.headers["retry-after"] = "0"
                return answer
            case Fault.CAPTIVE_PORTAL:
                return Answer(200, b"<html>Welcome to Hotel Wi-Fi</html>", {"content-type": "text/html"})
            case Fault.GARBAGE:
                return Answer(200, b'{"unexpected": true}')
            case Fault.REFUSED:
                return _problem(403, problem.Code.FORBIDDEN)
            case Fault.WINDOW_CLOSED:
                return _problem(409, problem.Code.WINDOW_CLOSED)
            case Fault.REVOKED:
                self.revoke()
                return _problem(401, problem.Code.SESSION_REVOKED)

    def _carry_out(self, request: Request) -> Answer:
        method, path, query, headers, body = request
        params = {name: values[0] for name, values in parse_qs(query).items()}
        parts = path.removeprefix("/api/v1/").split("/")
        match method, parts:
            case "POST", ["auth", "login"]:
                login = msgspec.json.decode(body, type=auth.LoginRequest)
                if (login.email, login.password) != (EMAIL, PASSWORD):
                    return _problem(401, problem.Code.INVALID_CREDENTIALS)
                self.revoked = self.unknown_session = False
                return _ok(self._pair())
            case "POST", ["auth", "refresh"]:
                self.refreshes += 1
                presented = msgspec.json.decode(body, type=auth.RefreshRequest).refresh_token
                if self.revoked:
                    return _problem(401, problem.Code.SESSION_REVOKED)
                if self.unknown_session or presented not in self.refresh_tokens:
                    return _problem(401, problem.Code.UNAUTHENTICATED)
                self.refresh_tokens.discard(presented)
                return _ok(self._pair())
        if not self.authorized(headers.get("authorization", "")):
            code = problem.Code.SESSION_REVOKED if self.revoked else problem.Code.UNAUTHENTICATED
            return _problem(401, code)
        match method, parts:
            case "POST", ["auth", "logout"]:
                self.revoke()
                return Answer(204)
            case "GET", ["me"]:
                return _ok(ME)
            case "GET", ["sync", "snapshot"]:
                return self._snapshot(params.get("cursor"))
            case "GET", ["sync", "changes"]:
                return self._changes(int(params["after"]), params.get("epoch"))
            case "GET", ["conversations", id_, "messages"]:
                return self._page(UUID(id_), params.get("before"), int(params.get("limit", "50")))
            case "POST", ["conversations", id_, "messages"]:
                return self._take(UUID(id_), msgspec.json.decode(body, type=inbox.SendMessageRequest))
            case "POST", ["conversations", _, "messages", id_, "retry"]:
                return self._send_again(UUID(id_), msgspec.json.decode(body, type=inbox.SendAgainRequest))
            case "POST", ["conversations", _, "messages", id_, "not-sent"]:
                return self._set_status(UUID(id_), DeliveryStatus.FAILED)
            case "POST", ["conversations", id_, "read"]:
                return self._read(UUID(id_), msgspec.json.decode(body, type=inbox.MarkReadRequest))
        return _problem(404, problem.Code.NOT_FOUND)

    def authorized(self, header: str) -> bool:
        return header.removeprefix("Bearer ") in self.access_tokens

    def _pair(self) -> auth.TokenPair:
        pair = auth.TokenPair(f"access-{uuid4()}", f"refresh-{uuid4()}", self.token_seconds)
        self.access_tokens.add(pair.access_token)
        self.refresh_tokens.add(pair.refresh_token)
        return pair

    def _snapshot(self, cursor: str | None) -> Answer:
        if cursor is None:
            seq, before = self.head, None
        else:
            epoch, seq_text, at, id_ = cursor.split("|")
            if epoch != str(self.epoch):
                return _problem(400, problem.Code.INVALID_CURSOR)
            seq, before = int(seq_text), (datetime.fromisoformat(at), UUID(id_))
        rows = sorted(self.conversations.values(), key=lambda r: (r.last_activity_at, r.id), reverse=True)
        if before is not None:
            rows = [row for row in rows if (row.last_activity_at, row.id) < before]
        page = rows[: self.snapshot_page]
        next_cursor = None
        if len(rows) > len(page):
            last = page[-1]
            next_cursor = f"{self.epoch}|{seq}|{last.last_activity_at.isoformat()}|{last.id}"
        return _ok(sync.Snapshot(self.epoch, seq, page, next_cursor))

    def _changes(self, after: int, epoch: str | None) -> Answer:
        if (epoch is not None and epoch != str(self.epoch)) or not self.floor <= after <= self.head:
            return _problem(410, problem.Code.RESYNC_REQUIRED)
        to = min(self.head, after + 100)
        newest = {entry: seq for seq, entry in enumerate(self.feed[after:to], start=after + 1)}
        changes: list[sync.Change] = []
        for (kind, id_), seq in sorted(newest.items(), key=lambda item: item[1]):
            if kind == "conversation":
                changes.append(sync.ConversationChange(seq, id_, self.conversations.get(id_)))
            else:
                changes.append(sync.MessageChange(seq, id_, self.messages.get(id_)))
        return _ok(sync.Changes(self.epoch, after, to, self.head, changes))

    def _page(self, conversation_id: UUID, before: str | None, limit: int) -> Answer:
        if conversation_id not in self.conversations:
            return _problem(404, problem.Code.NOT_FOUND)
        rows = self.timeline(conversation_id)[::-1]
        if before is not None:
            at, id_ = before.split("|")
            rows = [row for row in rows if _position(row) < (datetime.fromisoformat(at), UUID(id_))]
        page = rows[:limit]
        more = len(rows) > limit
        next_before = f"{page[-1].sent_at.isoformat()}|{page[-1].id}" if more else None
        return _ok(inbox.MessagePage(page, next_before))

    def _take(self, conversation_id: UUID, request: inbox.SendMessageRequest) -> Answer:
        if (known := self.by_client_id.get(request.client_id)) is not None:
            return _ok(self.messages[known])
        conversation = self.conversations.get(conversation_id)
        if conversation is None:
            return _problem(404, problem.Code.NOT_FOUND)
        message = inbox.Message(
            id=uuid7(),
            conversation_id=conversation_id,
            direction=inbox.Direction.OUTBOUND,
            content=request.content,
            status=DeliveryStatus.QUEUED,
            sent_at=self.tick(),
            version=0,
            client_id=request.client_id,
            author_id=ME.user.id,
            author_name=ME.user.name,
        )
        self.by_client_id[request.client_id] = message.id
        self.arrivals.append(request.client_id)
        self._put_message(message)
        self._put_conversation(conversation)
        return _ok(self.messages[message.id], status=201)

    def _send_again(self, message_id: UUID, request: inbox.SendAgainRequest) -> Answer:
        unconfirmed = self.messages[message_id].status is DeliveryStatus.UNCONFIRMED
        if unconfirmed and not request.may_arrive_twice:
            return _problem(409, problem.Code.CONFLICT)
        return self._set_status(message_id, DeliveryStatus.QUEUED)

    def _set_status(self, message_id: UUID, status: DeliveryStatus) -> Answer:
        self._put_message(msgspec.structs.replace(self.messages[message_id], status=status))
        return _ok(self.messages[message_id])

    def _read(self, conversation_id: UUID, request: inbox.MarkReadRequest) -> Answer:
        conversation = self.conversations.get(conversation_id)
        seen = self.messages.get(request.message_id)
        if conversation is None or seen is None:
            return _problem(404, problem.Code.NOT_FOUND)
        unread = [
            m
            for m in self.timeline(conversation_id)
            if m.direction is inbox.Direction.INBOUND and _position(m) > _position(seen)
        ]
        self._put_conversation(msgspec.structs.replace(conversation, unread_count=len(unread)))
        return Answer(204)


def _position(message: inbox.Message) -> tuple[datetime, UUID]:
    return message.sent_at, message.id


def _ok(body: Any, status: int = 200) -> Answer:
    return Answer(status, msgspec.json.encode(body))


def _problem(status: int, code: problem.Code) -> Answer:
    body = problem.Problem(title=f"Refused: {code}", status=status, code=code)
    return Answer(status, msgspec.json.encode(body), {"content-type": problem.MEDIA_TYPE})
