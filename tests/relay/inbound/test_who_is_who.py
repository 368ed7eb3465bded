"""People and their identities under load: whatever is seen in whatever order, nothing is lost or mixed up."""

import asyncio
import os
import random
from collections import defaultdict

import pytest

from relay.inbound.lanes import LaneWorker
from relay.kit.doorbell import Doorbell
from relay.kit.secrets import Secrets
from relay.numbers.service import add_number
from tests.conftest import TenantFixture
from tests.meta_webhooks import Inbox, text, webhook
from tests.relay.inbound.conftest import Look

SEED = os.environ.get("SEED") or str(random.randrange(10**6))


@pytest.mark.parametrize("together", [1, 7, 100])
async def test_any_sequence_of_identities_keeps_every_message_and_every_person(
    inbox: Inbox, look: Look, tenant: TenantFixture, together: int
) -> None:
    print(f"SEED={SEED}")
    rng = random.Random(SEED)
    seen: list[tuple[str | None, str | None]] = []
    bodies = []
    for n in range(100):
        bsuid = rng.choice([None, "DE.1", "DE.2", "DE.3"])
        phone = rng.choice([None, "111", "222", "333"] if bsuid else ["111", "222", "333"])
        seen.append((bsuid, phone))
        bodies.append(webhook(tenant, messages=[text(f"wamid.{n}", "x", phone=phone, bsuid=bsuid)]))
    for start in range(0, len(bodies), together):
        await inbox.take(*bodies[start : start + together])
    assert await look.items() == []
    wrote: dict[str, set[str]] = defaultdict(set)
    for conversation in await look.conversations(tenant):
        for message in await look.messages(tenant, conversation):
            assert message.wamid is not None
            bsuid, _ = seen[int(message.wamid.removeprefix("wamid."))]
            wrote[message.wamid].add(str(conversation.contact.id))
            if bsuid is not None:
                wrote[bsuid].add(str(conversation.contact.id))
    assert {wamid for wamid in wrote if wamid.startswith("wamid.")} == {f"wamid.{n}" for n in range(100)}
    assert all(len(contacts) == 1 for contacts in wrote.values())  # whoever has a BSUID is one contact
    people = [contacts.pop() for name, contacts in wrote.items() if name.startswith("DE.")]
    assert len(people) == len(set(people))  # and nobody has two
    rows = await look.rows("SELECT 1 FROM webhook_lane")
    assert len(rows) == len({identity for pair in seen for identity in pair if identity})


async def test_somebody_new_who_writes_to_two_numbers_at_once_is_one_contact(
    doorbell: Doorbell, relay_secrets: Secrets, inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    second = "29999"
    await add_number(
        inbox.database,
        relay_secrets,
        tenant.id,
        waba_id=tenant.waba_id,
        phone_number_id=second,
        access_token="token",
    )
    for n in range(30):
        phone = str(n % 15)
        number = tenant.phone_number_id if n % 2 else second
        await inbox.store(
            webhook(tenant, messages=[text(f"wamid.{n}", "x", phone=phone)], phone_number_id=number)
        )
    await inbox.splitter.step()
    workers = [LaneWorker(inbox.database, doorbell, relay_secrets) for _ in range(4)]
    while await look.items():
        await asyncio.gather(*(worker.step() for worker in workers))
    conversations = await look.conversations(tenant)
    assert len(conversations) == 30
    assert len({conversation.contact.id for conversation in conversations}) == 15
