"""What becomes of a message that a business sends: acceptance, statuses, and a customer who reads it."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from relay.sandbox.errors import GraphError, webhook_error
from relay.sandbox.faults import AFTER, BEFORE, Fault, Faults
from relay.sandbox.ids import TO_USER
from relay.sandbox.limits import number_limit, pair_limit
from relay.sandbox.settings import Settings
from relay.sandbox.state import Customer, Number, Send, World
from relay.sandbox.timers import Timers
from relay.sandbox.validation import TextMessage
from relay.sandbox.webhooks import Webhooks

SERVICE_MESSAGES_CHARGED_FROM: Final = datetime(2026, 10, 1, tzinfo=UTC).timestamp()

_FAILURE_WORDS: Final = {
    131047: "Message failed to send because more than 24 hours have passed since the customer last replied "
    "to this number.",
    131026: "Message undeliverable.",
}


class StruckError(Exception):
    """An injected fault ends the call without an answer of Graph."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.kind)
        self.fault = fault


class Outbound:
    def __init__(
        self,
        world: World,
        settings: Settings,
        timers: Timers,
        webhooks: Webhooks,
        faults: Faults,
        seed: str,
    ) -> None:
        self._world = world
        self._settings = settings
        self._timers = timers
        self._webhooks = webhooks
        self._faults = faults
        self._rng = random.Random(f"{seed}/statuses")  # noqa: S311
        self.pairs = pair_limit()
        self.throughput = number_limit()
        self.on_seen: Callable[[Send], None] = lambda _send: None
        """Called when a message reaches a customer (who may answer it)."""

    def accept(self, number: Number, message: TextMessage) -> tuple[Send, list[Fault]]:
        """Accept a message and start its statuses.

        Also returns the faults that spoil the answer. GraphError if Meta would refuse, StruckError if a fault
        ends the call before anything was accepted.
        """
        customer = self._customer(number, message)
        if customer.phone == number.digits:
            raise GraphError(131021, "The recipient and the sender are the same phone number.")
        recipients = {message.phone or "", message.bsuid or "", customer.key}
        self._strike_before(number, recipients)
        self._check_limits(number, customer)
        now = time.time()
        window = self._settings.service_window
        inside = window == "off" or self._world.window_open(number, customer, now)
        if not inside and window == "sync":
            raise GraphError(131047, _FAILURE_WORDS[131047])
        send = Send(
            self._world.wamid(customer, TO_USER),
            number,
            customer,
            "text",
            message.body,
            message.context,
            message.callback_data,
            now,
        )
        self._world.sends[send.wamid] = send
        faults = self._faults.strike(AFTER, number.id, recipients) if self._faults.active else []
        self._plan(send, faults, inside=inside)
        return send, faults

    def answer_pause(self) -> float:
        """Seconds that the answer to a send takes."""
        return self._rng.uniform(*self._settings.answer_seconds)

    def _customer(self, number: Number, message: TextMessage) -> Customer:
        if message.phone is not None:
            return self._world.by_phone(message.phone)
        bsuid = message.bsuid or ""
        known = self._world.by_bsuid(number.waba.portfolio_id, bsuid)
        # A well-formed id of nobody is accepted and then fails, like a phone number without WhatsApp.
        ids = {number.waba.portfolio_id: bsuid}
        return known or Customer(bsuid, None, "", bsuid[:2], "bsuid", exists=False, bsuids=ids)

    def _strike_before(self, number: Number, recipients: set[str]) -> None:
        for fault in self._faults.strike(BEFORE, number.id, recipients) if self._faults.active else ():
            if fault.kind == "refuse":
                raise GraphError(fault.code, fault.details)
            raise StruckError(fault)

    def _check_limits(self, number: Number, customer: Customer) -> None:
        if not self.throughput.add(number.id, self._settings.number_limit_speed):
            raise GraphError(
                130429, "Message failed to send because of too many messages from this phone number."
            )
        if not self.pairs.add((number.id, customer.key), self._settings.pair_limit_speed):
            raise GraphError(
                131056,
                "Message failed to send because there were too many messages sent from this phone number to "
                "the same phone number in a short period of time.",
            )

    def _plan(self, send: Send, faults: list[Fault], *, inside: bool) -> None:
        """Decide at once which statuses come when, so that one seed always gives the same story."""
        settings, customer = self._settings, send.customer
        failed = next((fault for fault in faults if fault.kind == "fail"), None)
        sent_after = self._rng.uniform(*settings.sent_seconds)
        if any(fault.kind == "mute" for fault in faults):
            return
        if failed is not None:
            self._timers.later(sent_after, self._fail, send, failed.code, failed.details)
        elif not customer.exists:
            self._timers.later(sent_after, self._fail, send, 131026, None)
        elif not inside:
            self._timers.later(sent_after, self._fail, send, 131047, None)
        else:
            delivered_after = sent_after + self._rng.uniform(*settings.delivered_seconds)
            read_after = delivered_after + self._rng.uniform(*settings.read_seconds)
            reads = settings.read_receipts if customer.read_receipts is None else customer.read_receipts
            moments = [("sent", sent_after), ("delivered", delivered_after), ("read", read_after)]
            self._report(send, moments if reads else moments[:2])
            self._timers.later(delivered_after, self._deliver, send)

    def _report(self, send: Send, moments: list[tuple[str, float]]) -> None:
        arrivals = [after for _, after in moments]
        if self._settings.order == "random":
            self._rng.shuffle(arrivals)
        # Each status keeps the time at which it came true, whenever its webhook comes.
        priced = {"sent", "delivered"}
        for (status, true_after), after in zip(moments, arrivals, strict=True):
            at = send.accepted_at + true_after
            self._timers.later(after, self._publish, send, status, at, status in priced)

    def _deliver(self, send: Send) -> None:
        send.delivered_at = time.time()
        self.on_seen(send)

    def _fail(self, send: Send, code: int, details: str | None) -> None:
        send.failed_code = code
        words = details or _FAILURE_WORDS.get(code, "Message failed to send.")
        self._publish(send, "failed", time.time(), priced=False, errors=[webhook_error(code, words)])

    def _publish(
        self, send: Send, status: str, at: float, priced: bool, errors: list[dict[str, Any]] | None = None
    ) -> None:
        number, customer = send.number, send.customer
        item: dict[str, Any] = {
            "id": send.wamid,
            "status": status,
            "timestamp": str(int(at)),
            **self._world.identity_fields(
                customer, number.waba.portfolio_id, "recipient_id", "recipient_user_id"
            ),
        }
        if send.callback_data is not None:
            item["biz_opaque_callback_data"] = send.callback_data
        if priced:
            item["pricing"] = _pricing(at)
        value = self._world.value(number)
        if errors is None:
            value["contacts"] = [self._world.contact(customer, number)]
        else:
            item["errors"] = errors
        value["statuses"] = [item]
        send.statuses.append((status, time.time()))
        self._webhooks.publish(number.waba, "messages", value)


def _pricing(at: float) -> dict[str, Any]:
    """Service messages were free until the end of September 2026."""
    charged = at >= SERVICE_MESSAGES_CHARGED_FROM
    kind = "regular" if charged else "free_customer_service"
    return {"billable": charged, "pricing_model": "PMP", "category": "service", "type": kind}
