"""What customers do: they write, and the business gets a webhook."""

import time
from typing import Any

from relay.sandbox.ids import TO_BUSINESS
from relay.sandbox.outbound import Outbound
from relay.sandbox.settings import Settings
from relay.sandbox.state import Customer, Number, World
from relay.sandbox.webhooks import Webhooks


class Inbound:
    def __init__(self, world: World, settings: Settings, webhooks: Webhooks, outbound: Outbound) -> None:
        self._world = world
        self._settings = settings
        self._webhooks = webhooks
        self._outbound = outbound

    def say(
        self,
        customer: Customer,
        number: Number,
        content: dict[str, Any],
        *,
        timestamp: int | None = None,
        context: str | None = None,
    ) -> str:
        """A customer's message: `content` holds `type` and what goes with it. Returns its wamid.

        Keys of `content` win over those made here, so that odd messages can be made too.
        """
        now = int(time.time())
        written_at = now if timestamp is None else timestamp
        wamid = self._world.wamid(customer, TO_BUSINESS)
        message: dict[str, Any] = {
            **self._world.identity_fields(customer, number.waba.portfolio_id, "from", "from_user_id"),
            "id": wamid,
            "timestamp": str(written_at),
        }
        if context is not None:
            message["context"] = {"from": number.digits, "id": context}
        message.update(content)
        wamid = str(message["id"])

        window = (number.id, customer.key)
        self._world.last_inbound_at[window] = max(self._world.last_inbound_at.get(window, 0.0), written_at)
        self._world.received[wamid] = number
        self._outbound.throughput.add(number.id, self._settings.number_limit_speed, force=True)

        value = self._world.value(number)
        if message.get("type") != "system":
            value["contacts"] = [self._world.contact(customer, number)]
        value["messages"] = [message]
        self._webhooks.publish(number.waba, "messages", value)
        return wamid
