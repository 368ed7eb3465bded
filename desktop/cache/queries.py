"""How views ask the cache. Each query is one short read on its own connection; writers do not block it."""

from uuid import UUID

from desktop.cache.rows import (
    ConversationRow,
    InboxCounts,
    InboxPage,
    InboxPosition,
    InboxQuery,
    MessagePosition,
    TimelineSlice,
    UnsentMessage,
)


class Queries:
    async def inbox_page(
        self, query: InboxQuery, after: InboxPosition | None = None, limit: int = 60
    ) -> InboxPage:
        """The conversations below `after` (None: from the top), newest activity first."""
        raise NotImplementedError

    async def inbox_counts(self) -> InboxCounts:
        raise NotImplementedError

    async def conversation(self, conversation_id: UUID) -> ConversationRow | None:
        raise NotImplementedError

    async def timeline_newest(self, conversation_id: UUID, limit: int = 200) -> TimelineSlice:
        """The end of a conversation, unsent messages included."""
        raise NotImplementedError

    async def timeline_before(
        self, conversation_id: UUID, before: MessagePosition, limit: int = 100
    ) -> TimelineSlice:
        """Rows directly above `before`, without it."""
        raise NotImplementedError

    async def timeline_after(
        self, conversation_id: UUID, after: MessagePosition, limit: int = 100
    ) -> TimelineSlice:
        """Rows directly below `after`, without it."""
        raise NotImplementedError

    async def draft(self, conversation_id: UUID) -> str:
        """What the composer held; empty if nothing."""
        raise NotImplementedError

    async def unsent(self) -> list[UnsentMessage]:
        """Everything in the outbox, oldest first."""
        raise NotImplementedError
