"""Every statement on contacts and their identities."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text

from relay.kit.db import TenantWork


class IdentityKey(NamedTuple):
    """One identity within a business portfolio; `kind` is phone, bsuid, parent_bsuid or username."""

    portfolio_id: str
    kind: str
    value: str


def _columns(keys: Collection[IdentityKey]) -> dict[str, list[str]]:
    return {
        "portfolios": [key.portfolio_id for key in keys],
        "kinds": [key.kind for key in keys],
        "values": [key.value for key in keys],
    }


_KEYS = """unnest(CAST(:portfolios AS text[]), CAST(:kinds AS text[]), CAST(:values AS text[]))
           AS key (portfolio_id, kind, value)"""


async def holders(work: TenantWork, keys: Collection[IdentityKey]) -> dict[IdentityKey, UUID]:
    """The contact that holds each of these identities, as far as they are known."""
    rows = await work.execute(_HOLDERS, {"tenant_id": work.tenant_id, **_columns(keys)})
    return {IdentityKey(row.portfolio_id, row.kind, row.value): row.contact_id for row in rows}


_HOLDERS = text(f"""
    SELECT i.portfolio_id, i.kind, i.value, i.contact_id
    FROM {_KEYS} JOIN contact_identity i USING (portfolio_id, kind, value)
    WHERE i.tenant_id = :tenant_id
""")  # noqa: S608 - a constant of this file


async def identities_around(work: TenantWork, keys: Collection[IdentityKey]) -> dict[IdentityKey, UUID]:
    """All identities of the contacts that hold any of these."""
    rows = await work.execute(_AROUND, {"tenant_id": work.tenant_id, **_columns(keys)})
    return {IdentityKey(row.portfolio_id, row.kind, row.value): row.contact_id for row in rows}


_AROUND = text(f"""
    SELECT i.portfolio_id, i.kind, i.value, i.contact_id
    FROM contact_identity i
    WHERE i.tenant_id = :tenant_id AND i.contact_id IN (
        SELECT held.contact_id FROM {_KEYS} JOIN contact_identity held USING (portfolio_id, kind, value)
        WHERE held.tenant_id = :tenant_id
    )
""")  # noqa: S608 - a constant of this file


async def lock_contacts(work: TenantWork, key: int) -> None:
    """Wait for other transactions that make or join contacts under this key; held until this one ends."""
    await work.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


async def insert_contacts(work: TenantWork, contact_ids: Sequence[UUID]) -> None:
    """Make contacts without a name."""
    statement = text(
        "INSERT INTO contact (tenant_id, id) SELECT :tenant_id, id FROM unnest(CAST(:ids AS uuid[])) AS id"
    )
    await work.execute(statement, {"tenant_id": work.tenant_id, "ids": contact_ids})


async def assign_identities(work: TenantWork, owners: Mapping[IdentityKey, UUID]) -> None:
    """Give identities to contacts, taking them from whoever held them."""
    parameters = {"tenant_id": work.tenant_id, "contacts": list(owners.values()), **_columns(owners.keys())}
    await work.execute(_ASSIGN, parameters)


_ASSIGN = text("""
    INSERT INTO contact_identity (tenant_id, portfolio_id, kind, value, contact_id)
    SELECT :tenant_id, *
    FROM unnest(CAST(:portfolios AS text[]), CAST(:kinds AS text[]), CAST(:values AS text[]),
                CAST(:contacts AS uuid[]))
    ON CONFLICT (tenant_id, portfolio_id, kind, value)
    DO UPDATE SET contact_id = excluded.contact_id, created_at = now()
""")


async def delete_identities(work: TenantWork, keys: Collection[IdentityKey]) -> None:
    """Forget identities."""
    await work.execute(_DELETE_IDENTITIES, {"tenant_id": work.tenant_id, **_columns(keys)})


_DELETE_IDENTITIES = text(f"""
    DELETE FROM contact_identity i USING {_KEYS}
    WHERE i.tenant_id = :tenant_id AND i.portfolio_id = key.portfolio_id AND i.kind = key.kind
        AND i.value = key.value
""")  # noqa: S608 - a constant of this file


async def rename(work: TenantWork, contact_ids: Sequence[UUID], names: Sequence[str]) -> set[UUID]:
    """Set profile names; returns the contacts whose name was another."""
    parameters = {"tenant_id": work.tenant_id, "ids": contact_ids, "names": names}
    return set((await work.execute(_RENAME, parameters)).scalars())


_RENAME = text("""
    UPDATE contact c SET profile_name = n.name
    FROM unnest(CAST(:ids AS uuid[]), CAST(:names AS text[])) AS n (id, name)
    WHERE c.tenant_id = :tenant_id AND c.id = n.id AND c.profile_name <> n.name
    RETURNING c.id
""")


# --- joining two contacts -------------------------------------------------------------------------


async def lock_conversations_of(
    work: TenantWork, stays: UUID, goes: UUID
) -> tuple[dict[UUID, UUID], dict[UUID, UUID]]:
    """The conversations of both contacts by number, locked against new messages."""
    parameters = {"tenant_id": work.tenant_id, "contacts": [stays, goes]}
    rows = (await work.execute(_LOCK_CONVERSATIONS, parameters)).all()
    ours = {row.number_id: row.id for row in rows if row.contact_id == stays}
    theirs = {row.number_id: row.id for row in rows if row.contact_id == goes}
    return ours, theirs


_LOCK_CONVERSATIONS = text("""
    SELECT id, number_id, contact_id FROM conversation
    WHERE tenant_id = :tenant_id AND contact_id = ANY(CAST(:contacts AS uuid[]))
    ORDER BY id FOR UPDATE
""")


async def give_conversation(work: TenantWork, conversation_id: UUID, contact_id: UUID) -> None:
    """A conversation goes to another contact."""
    statement = text(
        "UPDATE conversation SET contact_id = :contact_id, version = version + 1"
        " WHERE tenant_id = :tenant_id AND id = :id"
    )
    await work.execute(
        statement, {"tenant_id": work.tenant_id, "id": conversation_id, "contact_id": contact_id}
    )


async def move_messages(work: TenantWork, source: UUID, target: UUID) -> list[UUID]:
    """Move every message, also those still to be sent, from one conversation to another."""
    parameters = {"tenant_id": work.tenant_id, "source": source, "target": target}
    await work.execute(_MOVE_QUEUED, parameters)
    return list((await work.execute(_MOVE_MESSAGES, parameters)).scalars())


_MOVE_QUEUED = text("""
    UPDATE send_queue SET conversation_id = :target
    WHERE tenant_id = :tenant_id AND conversation_id = :source
""")
_MOVE_MESSAGES = text("""
    UPDATE message SET conversation_id = :target, version = version + 1
    WHERE tenant_id = :tenant_id AND conversation_id = :source
    RETURNING id
""")


async def fold_conversation(work: TenantWork, source: UUID, target: UUID) -> None:
    """Take over an emptied conversation's times and unread count, and delete it."""
    parameters = {"tenant_id": work.tenant_id, "source": source, "target": target}
    await work.execute(_FOLD, parameters)
    statement = text("DELETE FROM conversation WHERE tenant_id = :tenant_id AND id = :source")
    await work.execute(statement, {"tenant_id": work.tenant_id, "source": source})


_FOLD = text("""
    UPDATE conversation kept
    SET last_activity_at = greatest(kept.last_activity_at, gone.last_activity_at),
        last_inbound_at = greatest(kept.last_inbound_at, gone.last_inbound_at),
        unread_count = kept.unread_count + gone.unread_count,
        version = kept.version + 1
    FROM conversation gone
    WHERE kept.tenant_id = :tenant_id AND kept.id = :target
        AND gone.tenant_id = :tenant_id AND gone.id = :source
""")


async def delete_contact(work: TenantWork, contact_id: UUID) -> None:
    """Delete a contact that has no identities and conversations any more."""
    statement = text("DELETE FROM contact WHERE tenant_id = :tenant_id AND id = :id")
    await work.execute(statement, {"tenant_id": work.tenant_id, "id": contact_id})
