"""Who wrote: which contact a webhook's identities belong to.

A person has a BSUID, a phone number, or both, each known within one business portfolio. The BSUID is the
stable one: a phone number can pass to somebody else, and Meta gives a person who changes numbers a new BSUID.
Hence, for the identities that one webhook shows together:

- the BSUID decides; without a match the parent BSUID, then the phone number, unless its contact is known to
  have another BSUID;
- somebody known by phone only and somebody known by BSUID turn out to be one: their histories are joined;
- a phone number held by somebody with another BSUID has changed hands: it moves, the histories stay apart.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import structlog

from relay.conversations import contact_queries as queries
from relay.conversations.contact_queries import IdentityKey
from relay.kit import ids
from relay.kit.db import TenantWork
from relay.kit.lanes import lane_hash

log = structlog.get_logger(__name__)


class Person(NamedTuple):
    """The identities that one webhook shows for one person; `phone` is Meta's wa_id, digits only."""

    bsuid: str | None = None
    phone: str | None = None
    parent_bsuid: str | None = None
    username: str | None = None

    def keys(self, portfolio_id: str) -> list[IdentityKey]:
        """The identities this person has, strongest first."""
        named = (
            ("bsuid", self.bsuid),
            ("parent_bsuid", self.parent_bsuid),
            ("phone", self.phone),
            ("username", self.username),
        )
        return [IdentityKey(portfolio_id, kind, value) for kind, value in named if value]


_MATCHING: Final = frozenset({"bsuid", "parent_bsuid", "phone"})
"""Usernames are shown, not matched: anybody may take one that was given up."""


async def resolve(work: TenantWork, people: Sequence[tuple[str, Person]]) -> tuple[list[UUID], set[UUID]]:
    """The contact of each (portfolio, person), made where missing; and the contacts that changed."""
    wanted = [person.keys(portfolio_id) for portfolio_id, person in people]
    every_key = {key for keys in wanted for key in keys}
    holders = await queries.holders(work, every_key)
    if not _settled(wanted, holders):
        # Two transactions that meet the same new person must agree on one contact.
        await queries.lock_contacts(work, lane_hash("contacts", work.tenant_id))
        directory = _Directory(await queries.identities_around(work, every_key))
        for keys in wanted:
            directory.place(keys)
        await _write(work, directory)
        holders = directory.holders
        altered = directory.altered
    else:
        altered = set()
    return [holders[keys[0]] for keys in wanted], altered


async def link(work: TenantWork, people: Sequence[tuple[str, Person]]) -> set[UUID]:
    """Note what is new about people who have a contact already; returns the contacts that changed."""
    wanted = {person: person[1].keys(person[0]) for person in people}
    several = {person: keys for person, keys in wanted.items() if len(keys) > 1}
    if not several:
        return set()
    holders = await queries.holders(work, {key for keys in several.values() for key in keys})
    news = [
        person
        for person, keys in several.items()
        if any(key in holders for key in keys) and not _settled([keys], holders)
    ]
    return (await resolve(work, news))[1] if news else set()


async def rename(work: TenantWork, names: Mapping[UUID, str]) -> set[UUID]:
    """Take over profile names; returns the contacts whose name is new."""
    return await queries.rename(work, list(names.keys()), list(names.values()))


def _settled(wanted: Sequence[Sequence[IdentityKey]], holders: Mapping[IdentityKey, UUID]) -> bool:
    """Whether every identity is known and each person's identities belong to one contact."""
    for keys in wanted:
        owner = holders.get(keys[0])
        if owner is None or any(holders.get(key) != owner for key in keys):
            return False
    return True


class _Directory:
    """The contacts around some identities, and what has to change so that each person is one contact."""

    def __init__(self, holders: Mapping[IdentityKey, UUID]) -> None:
        self.holders = dict(holders)
        self.created: list[UUID] = []
        self.merged: list[tuple[UUID, UUID]] = []
        """(contact that goes, contact that stays)"""
        self.assigned: dict[IdentityKey, UUID] = {}
        self.dropped: list[IdentityKey] = []
        self.altered: set[UUID] = set()
        self._of: dict[UUID, set[IdentityKey]] = defaultdict(set)
        for key, contact_id in holders.items():
            self._of[contact_id].add(key)

    def place(self, keys: Sequence[IdentityKey]) -> None:
        """Make these identities belong to one contact."""
        owner = self._owner(keys)
        if owner is None:
            owner = ids.new_id()
            self.created.append(owner)
        for key in keys:
            holder = self.holders.get(key)
            if holder == owner:
                continue
            if holder is not None and key.kind in _MATCHING and not self._bsuids(holder):
                self._merge(holder, owner)
            else:
                self._assign(key, owner)
        self._forget_old_usernames(keys, owner)

    def _owner(self, keys: Sequence[IdentityKey]) -> UUID | None:
        bsuid = next((key for key in keys if key.kind == "bsuid"), None)
        for key in keys:
            holder = self.holders.get(key)
            if holder is None or key.kind not in _MATCHING:
                continue
            others = {held for held in self._bsuids(holder) if held.portfolio_id == key.portfolio_id}
            if bsuid is None or not others or bsuid in others:
                return holder
        return None

    def _bsuids(self, contact_id: UUID) -> list[IdentityKey]:
        return [key for key in self._of[contact_id] if key.kind == "bsuid"]

    def _assign(self, key: IdentityKey, owner: UUID) -> None:
        previous = self.holders.get(key)
        if previous is not None:
            self._of[previous].discard(key)
            self.altered.add(previous)
        self.holders[key] = self.assigned[key] = owner
        self._of[owner].add(key)
        self.altered.add(owner)

    def _merge(self, goes: UUID, stays: UUID) -> None:
        self.merged.append((goes, stays))
        for key in self._of.pop(goes):
            self.holders[key] = self.assigned[key] = stays
            self._of[stays].add(key)
        self.altered.discard(goes)
        self.altered.add(stays)

    def _forget_old_usernames(self, keys: Sequence[IdentityKey], owner: UUID) -> None:
        current = next((key for key in keys if key.kind == "username"), None)
        if current is None:
            return
        for key in list(self._of[owner]):
            if key.kind == "username" and key.portfolio_id == current.portfolio_id and key != current:
                self._of[owner].discard(key)
                del self.holders[key]
                self.assigned.pop(key, None)
                self.dropped.append(key)


async def _write(work: TenantWork, directory: _Directory) -> None:
    if directory.created:
        await queries.insert_contacts(work, directory.created)
    if directory.dropped:
        await queries.delete_identities(work, directory.dropped)
    if directory.assigned:
        await queries.assign_identities(work, directory.assigned)
    for goes, stays in directory.merged:
        await _join_histories(work, goes, stays)


async def _join_histories(work: TenantWork, goes: UUID, stays: UUID) -> None:
    """Two contacts were one person: the conversations of `goes` become those of `stays`."""
    log.info("contacts merged", tenant_id=str(work.tenant_id), contact_id=str(stays), merged_id=str(goes))
    # Locked before anything moves: a message stored into one of them meanwhile must be seen and moved too.
    ours, theirs = await queries.lock_conversations_of(work, stays, goes)
    for number_id, conversation_id in theirs.items():
        kept = ours.get(number_id)
        if kept is None:
            await queries.give_conversation(work, conversation_id, stays)
            work.changed("conversation", conversation_id)
            continue
        for message_id in await queries.move_messages(work, conversation_id, kept):
            work.changed("message", message_id)
        await queries.fold_conversation(work, conversation_id, kept)
        work.changed("conversation", kept)
        work.changed("conversation", conversation_id)
    await queries.delete_contact(work, goes)
