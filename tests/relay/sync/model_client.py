"""A client as simple as one can be: what a desktop keeps, and how it follows the feed."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, event

from relay.conversations.service import list_messages
from relay.kit.db import Database
from relay.kit.problem import ProblemError
from relay.sync import service
from shared.wire.inbox import Conversation, Message
from shared.wire.problem import Code
from shared.wire.sync import Changes, ConversationChange


class ModelClient:
    """Follows one tenant's feed. Newer versions win; pages that do not continue the cursor are dropped."""

    def __init__(self, database: Database, tenant_id: UUID, page: int = 1000) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._page = page
        self.epoch = UUID(int=0)
        self.cursor = 0
        self.conversations: dict[UUID, Conversation] = {}
        self.messages: dict[UUID, Message] = {}
        self.bootstraps = 0

    @property
    def state(self) -> tuple[dict[UUID, Conversation], dict[UUID, Message]]:
        return dict(self.conversations), dict(self.messages)

    async def bootstrap(self) -> None:
        """Start again: the snapshot, and every conversation's history."""
        self.bootstraps += 1
        self.conversations, self.messages = {}, {}
        next_page: str | None = None
        while True:
            page = await service.snapshot(self._database, self._tenant_id, next_page, self._page)
            self.epoch, self.cursor = page.epoch, page.seq
            for row in page.conversations:
                self._keep(self.conversations, row)
            next_page = page.next_cursor
            if next_page is None:
                break
        for conversation_id in list(self.conversations):
            await self._load_history(conversation_id)

    async def _load_history(self, conversation_id: UUID) -> None:
        before: str | None = None
        while True:
            page = await list_messages(self._database, self._tenant_id, conversation_id, before, 200)
            for row in page.items:
                self._keep(self.messages, row)
            before = page.next_before
            if before is None:
                return

    async def fetch(self, limit: int = 1000) -> Changes | None:
        """The next page, not applied yet; None where the relay asks to start again."""
        try:
            return await service.changes(self._database, self._tenant_id, self.cursor, self.epoch, limit)
        except ProblemError as problem:
            if problem.code is Code.RESYNC_REQUIRED:
                return None
            raise

    def apply(self, page: Changes) -> None:
        """Take a page over, unless it belongs elsewhere: pages may arrive twice or late."""
        if page.epoch != self.epoch or page.after != self.cursor:
            return
        seqs = [change.seq for change in page.changes]
        assert seqs == sorted(set(seqs))
        assert all(page.after < seq <= page.to for seq in seqs)
        for change in page.changes:
            if isinstance(change, ConversationChange):
                if change.row is None:
                    self.conversations.pop(change.id, None)
                    self.messages = {
                        key: row for key, row in self.messages.items() if row.conversation_id != change.id
                    }
                else:
                    self._keep(self.conversations, change.row)
            elif change.row is None:
                self.messages.pop(change.id, None)
            else:
                self._keep(self.messages, change.row)
        self.cursor = page.to

    @staticmethod
    def _keep(rows: dict[UUID, Any], row: Conversation | Message) -> None:
        known = rows.get(row.id)
        if known is None or row.version >= known.version:
            assert known is None or row.version > known.version or row == known, (
                f"a row changed without a new version: {known} → {row}"
            )
            rows[row.id] = row

    async def catch_up(self, limit: int = 1000) -> None:
        """Read until the head is reached, starting again where the relay asks for it."""
        while True:
            page = await self.fetch(limit)
            if page is None:
                await self.bootstrap()
                continue
            assert page.epoch == self.epoch, "a cursor of another epoch was accepted"
            self.apply(page)
            if page.to == page.head:
                return


async def fresh_state(
    database: Database, tenant_id: UUID
) -> tuple[dict[UUID, Conversation], dict[UUID, Message]]:
    """What a client that starts now would see."""
    client = ModelClient(database, tenant_id)
    await client.bootstrap()
    return client.state


@contextlib.asynccontextmanager
async def verify_action(database: Database, tenant_id: UUID) -> AsyncIterator[ModelClient]:
    """Run an action and prove its announcements: an old state plus the feed is what a fresh start sees.

    Also that the action changed something, and that the feed was written last in each transaction. Clients
    that read in pages of one position and in one go must agree.
    """
    client, slow_client = ModelClient(database, tenant_id), ModelClient(database, tenant_id)
    for each in (client, slow_client):
        await each.bootstrap()
    before = client.state
    with feed_written_last(database):
        yield client
    await client.catch_up()
    await slow_client.catch_up(limit=1)
    assert client.bootstraps == slow_client.bootstraps == 1, "the feed alone must be enough"
    after = await fresh_state(database, tenant_id)
    assert client.state == after
    assert slow_client.state == after
    assert after != before, "the action changed nothing that a client sees"


@contextlib.contextmanager
def feed_written_last(database: Database) -> Iterator[None]:
    """Fails if a transaction runs a statement after it has written the feed, or if none writes it."""
    written: set[int] = set()
    late: list[str] = []
    count = 0

    def on_statement(connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        nonlocal count
        if id(connection) in written:
            late.append(statement)
        if "UPDATE feed_head SET last_seq" in statement:
            written.add(id(connection))
            count += 1

    def on_end(connection: Connection) -> None:
        written.discard(id(connection))

    listeners = (("before_cursor_execute", on_statement), ("commit", on_end), ("rollback", on_end))
    for name, listener in listeners:
        event.listen(database.engine.sync_engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners:
            event.remove(database.engine.sync_engine, name, listener)
    assert not late, f"after the feed was written: {late}"
    assert count, "nothing was written to the feed"
