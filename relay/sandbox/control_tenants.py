"""Setting up tenants: numbers with the account, app and token they need."""

from litestar.exceptions import HTTPException, NotFoundException, ValidationException

from relay.sandbox import control_bodies as bodies
from relay.sandbox.callback_client import check_url
from relay.sandbox.sandbox import Sandbox
from relay.sandbox.state import App, Number, Token, Waba


def app_of(sandbox: Sandbox, app_id: str) -> App:
    app = sandbox.world.apps.get(app_id)
    if app is None:
        raise NotFoundException(f"No app {app_id}.")
    return app


def add_number(sandbox: Sandbox, new: bodies.NewNumber) -> bodies.NumberView:
    world, ids = sandbox.world, sandbox.ids
    if new.phone_number_id in world.numbers:
        raise HTTPException(f"The number {new.phone_number_id} exists.", status_code=409)
    if new.callback_url is not None:
        try:
            check_url(new.callback_url)
        except ValueError as error:
            raise ValidationException(str(error)) from error
    waba = world.wabas.get(new.waba_id) if new.waba_id else None
    app = _app_for(sandbox, new, waba)
    if waba is None:
        name = new.verified_name or "Sandbox business"
        waba = Waba(new.waba_id or ids.object_id(), name, new.portfolio_id or ids.object_id())
        world.wabas[waba.id] = waba
    waba.subscriptions.setdefault(app.id, None)
    _grant(sandbox, new.access_token, app, waba)
    display = new.display_phone_number or sandbox.new_display_number()
    number = Number(new.phone_number_id or ids.object_id(), waba, display, new.verified_name or waba.name)
    world.numbers[number.id] = number

    app.verify_token = new.verify_token or app.verify_token
    callback_url = new.callback_url or app.callback_url
    if callback_url is not None:
        sandbox.set_callback(app, callback_url)
    return number_view(sandbox, number)


def _app_for(sandbox: Sandbox, new: bodies.NewNumber, waba: Waba | None) -> App:
    apps = sandbox.world.apps
    if new.app_id is not None:
        found = apps.get(new.app_id)
    elif new.app_secret is not None:
        found = next((app for app in apps.values() if app.secret == new.app_secret), None)
    elif waba is not None and waba.subscriptions:
        found = apps[next(iter(waba.subscriptions))]
    else:
        found = apps[sandbox.start.app_id]
    if found is None:
        app_id = new.app_id or sandbox.ids.object_id()
        found = App(app_id, new.app_secret or sandbox.ids.secret(), sandbox.start.verify_token)
        apps[app_id] = found
    found.secret = new.app_secret or found.secret
    return found


def _grant(sandbox: Sandbox, value: str | None, app: App, waba: Waba) -> None:
    """Let the given token see the account; without one, make one unless some token sees it already."""
    tokens = sandbox.world.tokens
    if value is None:
        if any(waba.id in token.waba_ids for token in tokens.values()):
            return
        value = sandbox.ids.access_token()
    token = tokens.setdefault(value, Token(value, app, set()))
    token.waba_ids.add(waba.id)


def number_view(sandbox: Sandbox, number: Number) -> bodies.NumberView:
    waba = number.waba
    granted = [token.value for token in sandbox.world.tokens.values() if waba.id in token.waba_ids]
    return bodies.NumberView(
        number.id, number.display, number.verified_name, waba.id, waba.portfolio_id, list(waba.subscriptions),
        granted,
    )  # fmt: skip


def app_view(sandbox: Sandbox, app: App) -> bodies.AppView:
    callbacks = [
        bodies.VerificationView(
            outlet.url, outlet.verification.state, outlet.verification.reason, outlet.waiting
        )
        for outlet in sandbox.webhooks.outlets
        if outlet.app is app
    ]
    fields = None if app.fields is None else sorted(app.fields)
    return bodies.AppView(app.id, app.secret, app.verify_token, app.callback_url, fields, callbacks)


def tenants(sandbox: Sandbox) -> bodies.Tenants:
    world = sandbox.world
    numbers = [number_view(sandbox, number) for number in world.numbers.values()]
    return bodies.Tenants(numbers, [app_view(sandbox, app) for app in world.apps.values()])
