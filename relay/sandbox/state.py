"""Who exists: apps, business accounts, numbers, tokens, customers, and what was sent to whom."""

import functools
from dataclasses import dataclass, field
from typing import Any, Literal

from relay.sandbox.ids import Ids

IdentityMode = Literal["phone+bsuid", "bsuid", "phone"]
"""What webhooks reveal: both ids, only the BSUID (username adopters), only the phone (before 2026)."""

WINDOW_SECONDS = 24 * 3600


@dataclass(slots=True)
class Override:
    """A callback that a business account uses for its messages instead of the app's."""

    url: str
    verify_token: str


@dataclass(slots=True)
class App:
    id: str
    secret: str
    verify_token: str
    callback_url: str | None = None
    fields: frozenset[str] | None = None
    """Subscribed webhook fields; None means all."""


@dataclass(slots=True)
class Waba:
    id: str
    name: str
    portfolio_id: str
    subscriptions: dict[str, Override | None] = field(default_factory=dict)
    """App id → override. Every subscribed app gets a copy of each update."""


@dataclass(slots=True)
class Number:
    id: str
    waba: Waba
    display: str
    verified_name: str

    @property
    def digits(self) -> str:
        return digits_of(self.display)


@dataclass(slots=True)
class Token:
    value: str
    app: App
    waba_ids: set[str]
    app_token: bool = False


@dataclass(slots=True)
class Customer:
    """A person on WhatsApp. `key` (the phone, else a BSUID) tells people apart inside the sandbox."""

    key: str
    phone: str | None
    name: str
    country: str
    identity: IdentityMode = "phone+bsuid"
    read_receipts: bool | None = None
    """None: as the settings say."""
    exists: bool = True
    """False: not on WhatsApp; whatever is sent fails with 131026."""
    bsuids: dict[str, str] = field(default_factory=dict)

    @property
    def shown_phone(self) -> str | None:
        return None if self.identity == "bsuid" else self.phone


@dataclass(slots=True)
class Send:
    """A message that was accepted from a business."""

    wamid: str
    number: Number
    customer: Customer
    type: str
    body: str
    context: str | None
    callback_data: str | None
    accepted_at: float
    statuses: list[tuple[str, float]] = field(default_factory=list)
    """(status, time) as they were handed to the webhooks."""
    delivered_at: float | None = None
    """When the customer's phone got it."""
    failed_code: int | None = None


def digits_of(phone: str) -> str:
    return "".join(c for c in phone if c in "0123456789")


@functools.cache
def country_of(phone: str) -> str:
    """ISO country of an international number; ZZ if no country has its calling code."""
    import phonenumbers  # noqa: PLC0415 - its tables take 0.1 s, the sandbox must start at once

    codes = phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    for length in (1, 2, 3):
        regions = codes.get(int(phone[:length] or "0"))
        if regions and regions[0] != "001":
            return str(regions[0])
    return "ZZ"


class World:
    """The registry of everything that has an id."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self.apps: dict[str, App] = {}
        self.wabas: dict[str, Waba] = {}
        self.numbers: dict[str, Number] = {}
        self.tokens: dict[str, Token] = {}
        self.customers: dict[str, Customer] = {}
        self._by_phone: dict[str, Customer] = {}
        self._by_bsuid: dict[tuple[str, str], Customer] = {}
        self.sends: dict[str, Send] = {}
        self.received: dict[str, Number] = {}
        """Wamid of every message of a customer → the number that got it."""
        self.last_inbound_at: dict[tuple[str, str], float] = {}
        """(number id, customer key) → Meta's timestamp of the customer's last message."""

    def clear(self) -> None:
        for registry in vars(self).values():
            if isinstance(registry, dict):
                registry.clear()

    def add_customer(self, customer: Customer) -> Customer:
        self.customers[customer.key] = customer
        if customer.phone is not None:
            self._by_phone[customer.phone] = customer
        for portfolio_id, bsuid in customer.bsuids.items():
            self._by_bsuid[(portfolio_id, bsuid)] = customer
        return customer

    def by_phone(self, phone: str) -> Customer:
        """The customer with this number; a stranger who has WhatsApp if nobody was set up under it."""
        known = self._by_phone.get(phone)
        return known or self.add_customer(Customer(phone, phone, "", country_of(phone)))

    def by_bsuid(self, portfolio_id: str, bsuid: str) -> Customer | None:
        return self._by_bsuid.get((portfolio_id, bsuid))

    def by_reference(self, reference: str, portfolio_id: str) -> Customer:
        """The customer with this phone number or BSUID; made up if new."""
        if "." not in reference:
            return self.by_phone(digits_of(reference))
        known = self.by_bsuid(portfolio_id, reference)
        return known or self.add_customer(
            Customer(reference, None, "", reference[:2], "bsuid", bsuids={portfolio_id: reference})
        )

    def bsuid(self, customer: Customer, portfolio_id: str) -> str | None:
        """The customer's id within a portfolio, None for customers whose webhooks know only the phone."""
        if customer.identity == "phone":
            return None
        bsuid = customer.bsuids.get(portfolio_id)
        if bsuid is None:
            bsuid = customer.bsuids[portfolio_id] = self._ids.bsuid(
                customer.country, portfolio_id, customer.key
            )
            self._by_bsuid[(portfolio_id, bsuid)] = customer
        return bsuid

    def identity_fields(
        self, customer: Customer, portfolio_id: str, phone: str, bsuid: str
    ) -> dict[str, str]:
        """What webhooks may say of a customer, under these two names: absent ids are left out entirely."""
        fields: dict[str, str] = {}
        if customer.shown_phone is not None:
            fields[phone] = customer.shown_phone
        user_id = self.bsuid(customer, portfolio_id)
        if user_id is not None:
            fields[bsuid] = user_id
        return fields

    def contact(self, customer: Customer, number: Number) -> dict[str, Any]:
        """An element of `contacts[]` in webhooks."""
        ids = self.identity_fields(customer, number.waba.portfolio_id, "wa_id", "user_id")
        return {"profile": {"name": customer.name}, **ids}

    def value(self, number: Number) -> dict[str, Any]:
        """The head that every `messages` value shares."""
        return {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": number.digits, "phone_number_id": number.id},
        }

    def wamid(self, customer: Customer, direction: int) -> str:
        return self._ids.wamid(customer.phone or digits_of(customer.key)[:15], direction)

    def window_open(self, number: Number, customer: Customer, now: float) -> bool:
        last = self.last_inbound_at.get((number.id, customer.key))
        return last is not None and now < last + WINDOW_SECONDS

    def number(self, number_id: str | None) -> Number:
        """The number with this id, the first one for None. LookupError if there is none."""
        if number_id is None:
            return next(iter(self.numbers.values()))
        return self.numbers[number_id]
