"""Bodies of the control API. Times are unix seconds; ids are as in Meta's API."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from relay.sandbox.faults import Fault
from relay.sandbox.state import IdentityMode, Send


class Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class Say(Request):
    """A customer writes. Give `text`, or `message` with a `type` and its payload for every other kind."""

    from_: str = msgspec.field(name="from")
    """Phone number or BSUID; a customer who is new is made up."""
    text: str | None = None
    message: dict[str, Any] | None = None
    """Put into the message as it is; its keys win over those that the sandbox makes."""
    phone_number_id: str | None = None
    """The number written to; None: the first one."""
    name: str | None = None
    """Sets the customer's profile name."""
    identity: IdentityMode | None = None
    """Sets what webhooks reveal of the customer."""
    timestamp: int | None = None
    """When it was written; None: now."""
    reply_to: str | None = None
    """Wamid of the message that is quoted."""


class Said(msgspec.Struct):
    wamid: str
    from_phone: str | None = msgspec.field(name="from")
    user_id: str | None
    phone_number_id: str


class CustomerChange(Request):
    """Values left out stay as they are."""

    name: str | UnsetType = UNSET
    identity: IdentityMode | UnsetType = UNSET
    read_receipts: bool | UnsetType | None = UNSET
    """None: as the settings say."""
    exists: bool | UnsetType = UNSET
    """False: not on WhatsApp (131026)."""


class CustomerView(msgspec.Struct):
    phone: str | None
    name: str
    country: str
    identity: IdentityMode
    read_receipts: bool | None
    exists: bool
    user_ids: dict[str, str]
    """Portfolio id → BSUID."""


class NewNumber(Request):
    """A number, with the account, app and token it needs. What is left out is made up or found.

    The app is the one with `app_id`, else the one with `app_secret`, else the account's, else the demo app.
    """

    phone_number_id: str | None = None
    display_phone_number: str | None = None
    verified_name: str | None = None
    waba_id: str | None = None
    portfolio_id: str | None = None
    access_token: str | None = None
    app_id: str | None = None
    app_secret: str | None = None
    callback_url: str | None = None
    verify_token: str | None = None


class AppChange(Request):
    """Values left out stay as they are. A new callback or verify token is verified before it is used."""

    callback_url: str | None = None
    verify_token: str | None = None
    app_secret: str | None = None
    fields: list[str] | None = None


class VerificationView(msgspec.Struct):
    url: str
    state: str
    """pending, verified or failed. Updates wait until it is verified."""
    reason: str | None
    waiting: int
    """Updates and bodies that were not taken yet."""


class AppView(msgspec.Struct):
    app_id: str
    app_secret: str
    verify_token: str
    callback_url: str | None
    fields: list[str] | None
    callbacks: list[VerificationView]


class NumberView(msgspec.Struct):
    phone_number_id: str
    display_phone_number: str
    verified_name: str
    waba_id: str
    portfolio_id: str
    app_ids: list[str]
    access_tokens: list[str]


class Tenants(msgspec.Struct):
    numbers: list[NumberView]
    apps: list[AppView]


class RawUpdate(Request):
    """A change with any `value`, sent through the usual batching, signing and retries."""

    value: Any
    field: str = "messages"
    waba_id: str | None = None
    """None: the account of the first number."""


class RawBody(Request):
    """A body of any content, sent once to an app's callback."""

    body: str
    signature: Literal["good", "bad", "none"] = "good"
    app_id: str | None = None
    """None: the demo app."""


class AttemptView(msgspec.Struct):
    """One POST to a callback: the answer's status, or the error if there was no answer."""

    id: int
    at: float
    url: str
    updates: int
    size: int
    attempt: int
    status: int | None
    error: str | None
    seconds: float


class SendView(msgspec.Struct):
    wamid: str
    phone_number_id: str
    recipient: str
    """The phone number, else the BSUID."""
    type: str
    text: str
    context: str | None
    callback_data: str | None
    accepted_at: float
    delivered_at: float | None
    """When the customer's phone got it; None: not (yet)."""
    failed_code: int | None
    statuses: list[str]
    """In the order in which they were handed to the webhooks."""

    @classmethod
    def of(cls, send: Send) -> "SendView":
        return cls(
            send.wamid, send.number.id, send.customer.key, send.type, send.body, send.context,
            send.callback_data, send.accepted_at, send.delivered_at, send.failed_code,
            [status for status, _ in send.statuses],
        )  # fmt: skip


class SendPage(msgspec.Struct):
    total: int
    """How many match, of which `sends` holds those from `offset` on."""
    sends: list[SendView]


class RecipientCount(msgspec.Struct):
    recipient: str
    accepted: int
    delivered: int


class Crowd(Request):
    """Scripted customers. `pace`: mean seconds between two openings."""

    customers: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    pace: Annotated[float, msgspec.Meta(gt=0)] = 4.0


class Stats(msgspec.Struct):
    sends_accepted: int
    sends_delivered: int
    sends_failed: int
    messages_received: int
    """Written by customers."""
    updates_published: int
    posts_taken: int
    posts_refused: int
    updates_given_up: int
    waiting: int
    """Timers, updates and bodies that are still to come; 0 when all is quiet."""
    webhooks_paused: bool
    people: int
    faults: list[Fault]
    unknown_calls: dict[str, int]
    internal_errors: int
    """Errors of the sandbox itself; anything but 0 is a bug."""


class Quiet(msgspec.Struct):
    quiet: bool
    waiting: int
