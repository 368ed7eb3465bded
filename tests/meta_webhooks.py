"""Webhooks as Meta would deliver them, for tests of the relay."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from sqlalchemy import insert

from relay.inbound.lanes import LaneWorker
from relay.inbound.models import webhook_raw
from relay.inbound.splitter import Splitter
from relay.kit.db import Database
from relay.kit.doorbell import Doorbell
from relay.kit.secrets import Secrets
from relay.meta.signature import HEADER, sign
from tests.conftest import TenantFixture

Object = dict[str, Any]
NOW = 1_790_000_000
"""The Unix time at which these customers write."""


def text(
    wamid: str, body: str, *, phone: str | None = "4915550100200", bsuid: str | None = None, at: object = NOW
) -> Object:
    """A customer's text message."""
    message: Object = {"id": wamid, "timestamp": str(at), "type": "text", "text": {"body": body}}
    if phone is not None:
        message["from"] = phone
    if bsuid is not None:
        message["from_user_id"] = bsuid
    return message


def contact(
    name: str, *, phone: str | None = None, bsuid: str | None = None, username: str | None = None
) -> Object:
    """An entry of `contacts`."""
    entry: Object = {"profile": {"name": name}}
    if username is not None:
        entry["profile"]["username"] = username
    if phone is not None:
        entry["wa_id"] = phone
    if bsuid is not None:
        entry["user_id"] = bsuid
    return entry


def status(
    wamid: str, value: str, *, phone: str | None = "4915550100200", at: object = NOW, **more: Any
) -> Object:
    """A status of a message that we sent."""
    found: Object = {"id": wamid, "status": value, "timestamp": str(at), **more}
    if phone is not None:
        found["recipient_id"] = phone
    return found


def failed(wamid: str, code: int, **more: Any) -> Object:
    """The status of a message that Meta could not deliver."""
    return status(wamid, "failed", errors=[{"code": code, "title": "Meta's title"}], **more)


def webhook(
    tenant: TenantFixture,
    *,
    messages: Sequence[object] = (),
    statuses: Sequence[object] = (),
    contacts: Sequence[object] = (),
    phone_number_id: str | None = None,
) -> bytes:
    """One change of the `messages` field for the tenant's number."""
    value: Object = {
        "messaging_product": "whatsapp",
        "metadata": {
            "display_phone_number": "493090182010",
            "phone_number_id": phone_number_id or tenant.phone_number_id,
        },
    }
    lists: Mapping[str, Sequence[object]] = {
        "contacts": contacts,
        "messages": messages,
        "statuses": statuses,
    }
    value |= {name: list(items) for name, items in lists.items() if items}
    return envelope(tenant.waba_id, ("messages", value))


def envelope(waba_id: str, *changes: tuple[str, object]) -> bytes:
    """A body with one entry."""
    entry = {"id": waba_id, "changes": [{"field": field, "value": value} for field, value in changes]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


async def deliver(
    client: httpx.AsyncClient, path: str, body: bytes, secret: str, **headers: str
) -> httpx.Response:
    """Deliver a body signed with this app secret."""
    return await client.post(path, content=body, headers={HEADER: sign(secret, body), **headers})


class Inbox:
    """The worker's side of inbound, run step by step in the test's own process."""

    def __init__(self, database: Database, doorbell: Doorbell, secrets: Secrets) -> None:
        self.database = database
        self.splitter = Splitter(database, doorbell)
        self.lanes = LaneWorker(database, doorbell, secrets)

    async def store(self, *bodies: bytes, scope: TenantFixture | None = None) -> None:
        """Put bodies where the web process puts what it has acknowledged."""
        rows = [{"body": body, "scope_tenant_id": scope.id if scope else None} for body in bodies]
        async with self.database.system() as work:
            for row in rows:
                await work.execute(insert(webhook_raw).values(row))

    async def work(self) -> None:
        """Split and apply everything that is due."""
        while await self.splitter.step():
            pass
        while await self.lanes.step():
            pass

    async def take(self, *bodies: bytes, scope: TenantFixture | None = None) -> None:
        """Store, split and apply."""
        await self.store(*bodies, scope=scope)
        await self.work()
