"""Snapshot and changes over HTTP."""

import asyncio
from uuid import UUID

import httpx
import msgspec
import pytest
from sqlalchemy import text

from relay.kit.db import Database
from relay.kit.ids import new_id
from relay.sync import service
from shared.wire.sync import Changes, ConversationChange, MessageChange, Snapshot
from tests.conftest import TenantFixture, sign_in
from tests.relay.sync.desk import Desk


@pytest.fixture
async def signed_in(client: httpx.AsyncClient, tenant: TenantFixture) -> httpx.AsyncClient:
    await sign_in(client, tenant)
    return client


async def _snapshot(client: httpx.AsyncClient, **query: object) -> Snapshot:
    answer = await client.get("/api/v1/sync/snapshot", params=query)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Snapshot)


async def _changes(client: httpx.AsyncClient, **query: object) -> Changes:
    answer = await client.get("/api/v1/sync/changes", params=query)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Changes)


async def test_an_empty_inbox(signed_in: httpx.AsyncClient) -> None:
    snapshot = await _snapshot(signed_in)
    assert (snapshot.conversations, snapshot.next_cursor, snapshot.seq) == ([], None, 0)
    changes = await _changes(signed_in, after=0)
    assert (changes.epoch, changes.after, changes.to, changes.head) == (snapshot.epoch, 0, 0, 0)
    assert changes.changes == []


async def test_pages_of_a_snapshot_are_newest_first_and_meet(
    signed_in: httpx.AsyncClient, desk: Desk
) -> None:
    for n in range(7):
        await desk.customer_writes(phone=f"49155501000{n}", at=1_790_000_000 + n // 2)  # ties, too
    pages = [await _snapshot(signed_in, limit=3)]
    while pages[-1].next_cursor:
        pages.append(await _snapshot(signed_in, limit=3, cursor=pages[-1].next_cursor))
    assert [len(page.conversations) for page in pages] == [3, 3, 1]
    rows = [row for page in pages for row in page.conversations]
    order = [(row.last_activity_at, row.id) for row in rows]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == 7
    assert len({(page.epoch, page.seq) for page in pages}) == 1


async def test_what_moves_while_paging_is_in_the_changes_after_the_first_head(
    signed_in: httpx.AsyncClient, desk: Desk
) -> None:
    for n in range(4):
        await desk.customer_writes(phone=f"49155501000{n}", at=1_790_000_000 + n)
    first = await _snapshot(signed_in, limit=2)
    await desk.customer_writes("I jump to the top", phone="491555010000")
    rest = await _snapshot(signed_in, limit=10, cursor=first.next_cursor)
    assert rest.seq == first.seq, "the head of the first page, or the jump would be skipped"
    paged = {row.id for row in [*first.conversations, *rest.conversations]}
    changed = {
        change.id
        for change in (await _changes(signed_in, after=first.seq, epoch=first.epoch)).changes
        if isinstance(change, ConversationChange)
    }
    assert len(changed) == 1
    assert len(paged | changed) == 4


async def test_changes_carry_current_rows_once_each(signed_in: httpx.AsyncClient, desk: Desk) -> None:
    for body in ("one", "two", "three"):
        await desk.customer_writes(body)
    changes = await _changes(signed_in, after=0)
    conversations = [change for change in changes.changes if isinstance(change, ConversationChange)]
    messages = [change for change in changes.changes if isinstance(change, MessageChange)]
    assert len(conversations) == 1
    assert conversations[0].row is not None
    assert conversations[0].row.unread_count == 3
    assert [change.row.content.body for change in messages if change.row] == ["one", "two", "three"]  # type: ignore[union-attr]
    assert changes.to == changes.head == 6


async def test_changes_come_in_pages_that_end_where_the_next_begins(
    signed_in: httpx.AsyncClient, desk: Desk
) -> None:
    for n in range(5):
        await desk.customer_writes(f"{n}")
    cursor, seen = 0, []
    while True:
        page = await _changes(signed_in, after=cursor, limit=2)
        assert page.after == cursor
        assert page.to - page.after <= 2
        seen += [change.id for change in page.changes if isinstance(change, MessageChange)]
        cursor = page.to
        if page.to == page.head:
            break
    assert len(seen) == len(set(seen)) == 5


async def test_a_row_that_is_gone_is_a_tombstone(signed_in: httpx.AsyncClient, desk: Desk) -> None:
    ghost = new_id()
    async with desk.database.tenant(desk.tenant.id) as work:
        work.changed("conversation", ghost)
        work.changed("message", ghost)
    changes = (await _changes(signed_in, after=0)).changes
    assert [(type(change), change.id, change.row) for change in changes] == [
        (ConversationChange, ghost, None),
        (MessageChange, ghost, None),
    ]


async def _refusal(client: httpx.AsyncClient, path: str, **query: object) -> tuple[int, str]:
    answer = await client.get(f"/api/v1/sync/{path}", params=query)  # type: ignore[arg-type]
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_a_cursor_that_does_not_fit_asks_to_start_again(
    signed_in: httpx.AsyncClient, desk: Desk
) -> None:
    await desk.customer_writes()
    resync = (410, "resync_required")
    first = await _snapshot(signed_in)
    assert await _refusal(signed_in, "changes", after=3) == resync, "above the head"
    assert await _refusal(signed_in, "changes", after=0, epoch=new_id()) == resync, "another epoch"
    await _changes(signed_in, after=0, epoch=first.epoch)
    async with desk.database.system() as work:
        await work.execute(text("UPDATE feed SET at = at - interval '31 days'"))
    await service.clear_old_entries(desk.database)
    assert await _refusal(signed_in, "changes", after=1) == resync, "below the floor"
    assert (await _changes(signed_in, after=2)).changes == []
    await service.start_new_epoch(desk.database)
    assert await _refusal(signed_in, "changes", after=2, epoch=first.epoch) == resync
    again = await _snapshot(signed_in)
    assert again.epoch != first.epoch
    await _changes(signed_in, after=again.seq, epoch=again.epoch)


async def test_a_snapshot_cannot_be_paged_across_epochs(signed_in: httpx.AsyncClient, desk: Desk) -> None:
    for n in range(3):
        await desk.customer_writes(phone=f"49155501000{n}")
    page = await _snapshot(signed_in, limit=1)
    await service.start_new_epoch(desk.database)
    assert await _refusal(signed_in, "snapshot", cursor=page.next_cursor) == (410, "resync_required")


@pytest.mark.parametrize("cursor", ["", "x", "1.2.3", "..", f"{UUID(int=0).hex}.1.AAAA", "é.1.x", "a" * 5000])
async def test_a_made_up_snapshot_cursor_is_refused(signed_in: httpx.AsyncClient, cursor: str) -> None:
    assert await _refusal(signed_in, "snapshot", cursor=cursor) == (400, "invalid_cursor")


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"after": "-1"},
        {"after": "soon"},
        {"after": str(2**63)},
        {"after": "0", "limit": "0"},
        {"after": "0", "limit": "1001"},
        {"after": "0", "epoch": "yesterday"},
    ],
)
async def test_bad_parameters_are_named(signed_in: httpx.AsyncClient, query: dict[str, str]) -> None:
    assert await _refusal(signed_in, "changes", **query) == (400, "invalid_request")


async def test_nothing_without_a_token(client: httpx.AsyncClient) -> None:
    for path in ("snapshot", "changes?after=0"):
        assert (await client.get(f"/api/v1/sync/{path}")).status_code == 401


async def test_one_tenant_never_sees_another(
    signed_in: httpx.AsyncClient, desk: Desk, other_tenant: TenantFixture, client: httpx.AsyncClient
) -> None:
    await desk.customer_writes("SECRET of the first")
    page = await _snapshot(signed_in)
    await sign_in(client, other_tenant)
    answers = [
        await client.get("/api/v1/sync/snapshot"),
        await client.get("/api/v1/sync/changes", params={"after": 0}),
        await client.get("/api/v1/sync/changes", params={"after": 0, "epoch": str(page.epoch)}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 410]
    assert not any("SECRET" in answer.text for answer in answers)


async def test_a_stampede_of_snapshots_queues_and_the_surplus_is_sent_away(
    signed_in: httpx.AsyncClient, database: Database, tenant: TenantFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SNAPSHOT_WAIT_SECONDS", 0.2)
    async with service._snapshot_slot(tenant.id), service._snapshot_slot(tenant.id):
        answer = await signed_in.get("/api/v1/sync/snapshot")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    monkeypatch.undo()
    answers = await asyncio.gather(*(signed_in.get("/api/v1/sync/snapshot") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
