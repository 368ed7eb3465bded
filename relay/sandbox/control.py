"""The control API under `/_sandbox`: tests and people play the customer, and make things go wrong."""

import asyncio
import itertools
import logging
import time
from typing import Annotated, Any

from litestar import Litestar, Router, delete, get, patch, post, put
from litestar.exceptions import HTTPException, NotFoundException, ValidationException
from litestar.openapi import OpenAPIConfig
from litestar.params import Dependency, Parameter
from litestar.types import Scope
from msgspec import UNSET

from relay.sandbox import control_bodies as bodies
from relay.sandbox.callback_client import check_url
from relay.sandbox.control_tenants import add_number, app_of, app_view, tenants
from relay.sandbox.faults import Fault, NewFault
from relay.sandbox.sandbox import Sandbox
from relay.sandbox.settings import Settings
from relay.sandbox.state import Customer, Number
from relay.sandbox.webhooks import signature_headers

log = logging.getLogger("relay.sandbox.control")

TheSandbox = Annotated[Sandbox, Dependency(skip_validation=True)]


# People


@post("/say", status_code=200, summary="A customer writes")
async def say(data: bodies.Say, sandbox: TheSandbox) -> bodies.Said:
    if (data.text is None) == (data.message is None):
        raise ValidationException("Give either text or message.")
    number = _number(sandbox, data.phone_number_id)
    customer = _customer(sandbox, data.from_, number)
    if data.name is not None:
        customer.name = data.name
    if data.identity is not None:
        _set_identity(customer, data.identity)
    content = {"type": "text", "text": {"body": data.text}} if data.message is None else data.message
    wamid = sandbox.inbound.say(customer, number, content, timestamp=data.timestamp, context=data.reply_to)
    user_id = sandbox.world.bsuid(customer, number.waba.portfolio_id)
    return bodies.Said(wamid, customer.shown_phone, user_id, number.id)


@patch("/customers/{reference:str}", summary="Set up a customer by phone number or BSUID")
async def change_customer(
    reference: str, data: bodies.CustomerChange, sandbox: TheSandbox
) -> bodies.CustomerView:
    customer = _customer(sandbox, reference, sandbox.world.number(None))
    if data.name is not UNSET:
        customer.name = data.name
    if data.identity is not UNSET:
        _set_identity(customer, data.identity)
    if data.read_receipts is not UNSET:
        customer.read_receipts = data.read_receipts
    if data.exists is not UNSET:
        customer.exists = data.exists
    return _customer_view(customer)


@get("/customers", summary="All customers, also those who were only written to")
async def list_customers(sandbox: TheSandbox) -> list[bodies.CustomerView]:
    return [_customer_view(customer) for customer in sandbox.world.customers.values()]


@post("/people", status_code=200, summary="Bring scripted customers")
async def start_people(data: bodies.Crowd, sandbox: TheSandbox) -> bodies.Crowd:
    sandbox.people.start(data.customers, data.pace)
    return data


@delete("/people", summary="Send the scripted customers home")
async def stop_people(sandbox: TheSandbox) -> None:
    await sandbox.people.stop()


# What was sent


@get("/sends", summary="Accepted messages, oldest first")
async def list_sends(
    sandbox: TheSandbox,
    recipient: str | None = None,
    phone_number_id: str | None = None,
    callback_data: str | None = None,
    offset: Annotated[int, Parameter(ge=0)] = 0,
    limit: Annotated[int, Parameter(ge=1, le=100_000)] = 1000,
) -> bodies.SendPage:
    matching = [
        send
        for send in sandbox.world.sends.values()
        if recipient in {None, send.customer.key}
        and phone_number_id in {None, send.number.id}
        and callback_data in {None, send.callback_data}
    ]
    chosen = itertools.islice(matching, offset, offset + limit)
    return bodies.SendPage(len(matching), [bodies.SendView.of(send) for send in chosen])


@get("/recipients", summary="How many messages were accepted for and delivered to each customer")
async def count_recipients(sandbox: TheSandbox) -> list[bodies.RecipientCount]:
    counts: dict[str, bodies.RecipientCount] = {}
    for send in sandbox.world.sends.values():
        key = send.customer.key
        count = counts.setdefault(key, bodies.RecipientCount(key, 0, 0))
        count.accepted += 1
        count.delivered += send.delivered_at is not None
    return list(counts.values())


# Behaviour


@get("/settings", summary="The settings")
async def get_settings(sandbox: TheSandbox) -> Settings:
    return sandbox.settings


@put("/settings", summary="Replace the settings; fields left out take their documented defaults")
async def put_settings(data: Settings, sandbox: TheSandbox) -> Settings:
    sandbox.settings.replace_by(data)
    return sandbox.settings


@post("/faults", status_code=201, summary="Make the next sends go wrong")
async def add_fault(data: NewFault, sandbox: TheSandbox) -> Fault:
    return sandbox.faults.add(data)


@get("/faults", summary="Faults that are set up, with their hits")
async def list_faults(sandbox: TheSandbox) -> list[Fault]:
    return list(sandbox.faults.active.values())


@delete("/faults", summary="Remove all faults")
async def clear_faults(sandbox: TheSandbox) -> None:
    sandbox.faults.clear()


# Webhooks


@post("/webhooks/raw", status_code=202, summary="Publish a change with any value")
async def publish_raw(data: bodies.RawUpdate, sandbox: TheSandbox) -> None:
    waba = sandbox.world.wabas.get(data.waba_id) if data.waba_id else sandbox.world.number(None).waba
    if waba is None:
        raise NotFoundException(f"No business account {data.waba_id}.")
    sandbox.webhooks.publish(waba, data.field, data.value)


@post("/webhooks/body", status_code=200, summary="Send any bytes once, signed well, badly or not at all")
async def send_body(data: bodies.RawBody, sandbox: TheSandbox) -> bodies.AttemptView:
    app = app_of(sandbox, data.app_id or sandbox.start.app_id)
    if app.callback_url is None:
        raise HTTPException(f"App {app.id} has no callback.", status_code=409)
    body = data.body.encode()
    headers = signature_headers(body, app.secret if data.signature == "good" else app.secret + "-wrong")
    if data.signature == "none":
        headers = {name: value for name, value in headers.items() if not name.startswith("X-Hub-")}
    attempt = await sandbox.webhooks.post(app.callback_url, body, headers, updates=1)
    return _attempt_view(attempt)


@get("/webhooks/attempts", summary="POSTs to callbacks, the last 20,000")
async def list_attempts(
    sandbox: TheSandbox, after: int = 0, limit: Annotated[int, Parameter(ge=1, le=20_000)] = 1000
) -> list[bodies.AttemptView]:
    chosen = (attempt for attempt in sandbox.webhooks.attempts if attempt.id > after)
    return [_attempt_view(attempt) for attempt in itertools.islice(chosen, limit)]


@post("/webhooks/pause", status_code=204, summary="Hold all updates back")
async def pause(sandbox: TheSandbox) -> None:
    sandbox.webhooks.paused = True


@post("/webhooks/resume", status_code=204, summary="Deliver what was held back")
async def resume(sandbox: TheSandbox) -> None:
    sandbox.webhooks.resume()


# Tenants


@get("/tenants", summary="Numbers, accounts, apps and tokens")
async def get_tenants(sandbox: TheSandbox) -> bodies.Tenants:
    return tenants(sandbox)


@post("/numbers", status_code=201, summary="Add a number, and the account, app and token it needs")
async def post_number(data: bodies.NewNumber, sandbox: TheSandbox) -> bodies.NumberView:
    return add_number(sandbox, data)


@patch("/apps/{app_id:str}", summary="Change an app: callback, verify token, secret, fields")
async def change_app(app_id: str, data: bodies.AppChange, sandbox: TheSandbox) -> bodies.AppView:
    app = app_of(sandbox, app_id)
    _check_callback(data.callback_url)
    app.secret = data.app_secret or app.secret
    app.verify_token = data.verify_token or app.verify_token
    if data.fields is not None:
        app.fields = frozenset(data.fields)
    if data.callback_url is not None or data.verify_token is not None:
        url = data.callback_url or app.callback_url
        if url is not None:
            sandbox.set_callback(app, url)
    return app_view(sandbox, app)


@post(
    "/apps/{app_id:str}/verify", status_code=200, summary="Verify the app's callback again, and wait for it"
)
async def verify_app(app_id: str, sandbox: TheSandbox) -> bodies.AppView:
    app = app_of(sandbox, app_id)
    if app.callback_url is None:
        raise HTTPException(f"App {app.id} has no callback.", status_code=409)
    outlet = sandbox.webhooks.outlet(app, app.callback_url, app.verify_token)
    sandbox.webhooks.verify_again(outlet)
    deadline = time.monotonic() + sandbox.settings.timeout_seconds
    while outlet.verification.state == "pending" and outlet.verification.reason is None:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.01)
    return app_view(sandbox, app)


# The whole


@get("/stats", summary="Counters, faults, calls that the sandbox does not know")
async def get_stats(sandbox: TheSandbox) -> bodies.Stats:
    sends, webhooks = sandbox.world.sends.values(), sandbox.webhooks
    return bodies.Stats(
        sends_accepted=len(sends),
        sends_delivered=sum(send.delivered_at is not None for send in sends),
        sends_failed=sum(send.failed_code is not None for send in sends),
        messages_received=len(sandbox.world.received),
        updates_published=webhooks.updates_published,
        posts_taken=webhooks.posts_taken,
        posts_refused=webhooks.posts_refused,
        updates_given_up=webhooks.updates_given_up,
        waiting=webhooks.waiting,
        webhooks_paused=webhooks.paused,
        people=sandbox.people.count,
        faults=list(sandbox.faults.active.values()),
        unknown_calls=sandbox.unknown_calls,
        internal_errors=sandbox.internal_errors,
    )


@get("/quiet", summary="Wait until no status and no webhook is under way")
async def wait_until_quiet(
    sandbox: TheSandbox, timeout: Annotated[float, Parameter(ge=0, le=300)] = 10.0
) -> bodies.Quiet:
    deadline = time.monotonic() + timeout
    while (waiting := sandbox.webhooks.waiting) and time.monotonic() < deadline:  # noqa: ASYNC110 - many causes, no one event
        await asyncio.sleep(0.01)
    return bodies.Quiet(waiting == 0, waiting)


@post("/reset", status_code=204, summary="As if started anew")
async def reset(sandbox: TheSandbox) -> None:
    await sandbox.reset()


def _number(sandbox: Sandbox, number_id: str | None) -> Number:
    try:
        return sandbox.world.number(number_id)
    except LookupError:
        raise NotFoundException(f"No phone number {number_id}.") from None


def _customer(sandbox: Sandbox, reference: str, number: Number) -> Customer:
    is_bsuid = "." in reference[2:3]
    if not is_bsuid and not any(c.isdigit() for c in reference):
        raise ValidationException(f"{reference!r} is neither a phone number nor a BSUID such as DE.123.")
    return sandbox.world.by_reference(reference, number.waba.portfolio_id)


def _set_identity(customer: Customer, identity: str) -> None:
    if customer.phone is None and identity != "bsuid":
        raise ValidationException("This customer has no phone number, so webhooks can only reveal the BSUID.")
    customer.identity = identity  # type: ignore[assignment] # the body's type has checked it


def _check_callback(url: str | None) -> None:
    if url is None:
        return
    try:
        check_url(url)
    except ValueError as error:
        raise ValidationException(str(error)) from error


def _customer_view(customer: Customer) -> bodies.CustomerView:
    return bodies.CustomerView(
        customer.phone, customer.name, customer.country, customer.identity, customer.read_receipts,
        customer.exists, dict(customer.bsuids),
    )  # fmt: skip


def _attempt_view(attempt: Any) -> bodies.AttemptView:
    return bodies.AttemptView(*(getattr(attempt, name) for name in bodies.AttemptView.__struct_fields__))


async def _log_exception(exception: Exception, scope: Scope) -> None:
    if not isinstance(exception, HTTPException) or exception.status_code >= 500:
        log.error("%s %s broke", scope.get("method"), scope["path"], exc_info=exception)


def build_control(sandbox: Sandbox) -> Litestar:
    """The control API as an app of its own; OpenAPI at `/_sandbox/schema`."""

    async def provide_sandbox() -> Sandbox:
        return sandbox

    handlers = [
        say, change_customer, list_customers, start_people, stop_people, list_sends, count_recipients,
        get_settings, put_settings, add_fault, list_faults, clear_faults,
        publish_raw, send_body, list_attempts, pause, resume,
        get_tenants, post_number, change_app, verify_app, get_stats, wait_until_quiet, reset,
    ]  # fmt: skip
    return Litestar(
        [Router("/_sandbox", route_handlers=handlers, dependencies={"sandbox": provide_sandbox})],
        openapi_config=OpenAPIConfig("Sandbox control", "1", path="/_sandbox/schema"),
        after_exception=[_log_exception],
        logging_config=None,
    )
