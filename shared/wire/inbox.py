"""Conversations and messages."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from shared.content import Content, TextContent
from shared.delivery import DeliveryStatus


class Direction(StrEnum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Contact(msgspec.Struct, frozen=True):
    """The person at the other end. Any of the identities may be missing; `name` may be empty."""

    id: UUID
    name: str
    phone: str | None = None
    username: str | None = None


class SendError(msgspec.Struct, frozen=True):
    """Why a message failed: Meta's code where there is one, and words for the agent."""

    title: str
    advice: str
    meta_code: int | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One bubble of a timeline, ordered by `(sent_at, id)`.

    `sent_at` is when the customer sent it (Meta's timestamp), or when the relay took it from an agent.
    `version` grows with each change; a reader keeps the row with the highest.
    """

    id: UUID
    conversation_id: UUID
    direction: Direction
    content: Content
    status: DeliveryStatus
    sent_at: datetime
    version: int
    client_id: UUID | None = None
    author_id: UUID | None = None
    author_name: str = ""
    status_at: datetime | None = None
    error: SendError | None = None
    reply_to_wamid: str | None = None
    wamid: str | None = None


class LastMessage(msgspec.Struct, frozen=True):
    """What the list shows under a conversation's name."""

    id: UUID
    direction: Direction
    summary: str
    status: DeliveryStatus
    sent_at: datetime


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """One thread per (number, contact), listed by `(last_activity_at, id)`, newest first.

    `last_inbound_at` is Meta's timestamp of the customer's newest message and opens the service window.
    """

    id: UUID
    number_id: UUID
    contact: Contact
    last_activity_at: datetime
    version: int
    unread_count: int = 0
    last_inbound_at: datetime | None = None
    last_message: LastMessage | None = None


class ConversationPage(msgspec.Struct, frozen=True):
    """`next_cursor` is None on the last page."""

    items: list[Conversation]
    next_cursor: str | None


class MessagePage(msgspec.Struct, frozen=True):
    """Newest first. `next_before` is None once the start of the conversation is reached."""

    items: list[Message]
    next_before: str | None


class SendMessageRequest(msgspec.Struct, frozen=True):
    """`client_id` is made by the sender (UUIDv7); the same id again answers with the same message.

    `seen_message_id` is the newest message the agent had seen when writing.
    """

    client_id: UUID
    content: TextContent
    seen_message_id: UUID | None = None


class SendAgainRequest(msgspec.Struct, frozen=True):
    """For a message that failed or is unconfirmed; sent again, the latter may arrive twice."""

    may_arrive_twice: bool = False


class MarkReadRequest(msgspec.Struct, frozen=True):
    """The agent has seen everything up to and including this message."""

    message_id: UUID
