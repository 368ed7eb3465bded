"""The Graph calls that the sandbox answers, one function each, and the table that leads to them."""

import asyncio
import base64
import binascii
import time
from typing import Any, Final

from relay.sandbox.callback_client import check_url
from relay.sandbox.errors import GraphError, invalid
from relay.sandbox.graph import Call, Handler, Node, Reply
from relay.sandbox.state import App, Number, Override, Waba
from relay.sandbox.validation import ReadReceipt, parse

PAGE_DEFAULT: Final = 25
PAGE_MAX: Final = 100
SCOPES: Final = ("whatsapp_business_management", "whatsapp_business_messaging")
_SUCCESS: Final = {"success": True}


async def send_message(call: Call, number: Number) -> Reply | dict[str, Any]:
    """`POST /{phone_number_id}/messages`: a message, or a read receipt with or without typing."""
    sandbox = call.sandbox
    wanted = parse(call.params)
    if isinstance(wanted, ReadReceipt):
        if sandbox.world.received.get(wanted.message_id) is not number:
            raise GraphError(131009, "No message with this id was received by this phone number.")
        return dict(_SUCCESS)
    send, faults = sandbox.outbound.accept(number, wanted)
    await asyncio.sleep(sandbox.outbound.answer_pause())
    contact = {"input": wanted.to}
    if wanted.phone is not None:
        contact["wa_id"] = wanted.phone
    user_id = sandbox.world.bsuid(send.customer, number.waba.portfolio_id)
    if user_id is not None:
        contact["user_id"] = user_id
    body = {"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": send.wamid}]}
    return Reply(body, faults)


NUMBER_FIELDS: Final = (
    "verified_name", "code_verification_status", "display_phone_number", "quality_rating", "platform_type",
    "throughput", "id",
)  # fmt: skip
"""Given when no `fields` are asked for."""


def _number(number: Number) -> dict[str, Any]:
    return {
        "id": number.id,
        "display_phone_number": number.display,
        "verified_name": number.verified_name,
        "quality_rating": "GREEN",
        "quality_score": {"score": "GREEN"},
        "code_verification_status": "VERIFIED",
        "name_status": "APPROVED",
        "status": "CONNECTED",
        "platform_type": "CLOUD_API",
        "throughput": {"level": "STANDARD"},
        "account_mode": "LIVE",
        "is_official_business_account": False,
        "is_pin_enabled": True,
        "messaging_limit_tier": "TIER_2K",
        "whatsapp_business_manager_messaging_limit": "TIER_2K",
    }


async def get_number(call: Call, number: Number) -> dict[str, Any]:
    return _project(call, _number(number), NUMBER_FIELDS, "WhatsAppBusinessPhoneNumber")


async def get_waba(call: Call, waba: Waba) -> dict[str, Any]:
    document = {
        "id": waba.id,
        "name": waba.name,
        "currency": "USD",
        "timezone_id": "1",
        "message_template_namespace": f"{int(waba.id):032x}" if waba.id.isdecimal() else waba.id,
        "account_review_status": "APPROVED",
        "business_verification_status": "verified",
        "country": "US",
        "ownership_type": "SELF",
        "status": "ACTIVE",
        "owner_business_info": {"id": waba.portfolio_id, "name": waba.name},
    }
    default = ("id", "name", "currency", "timezone_id", "message_template_namespace")
    return _project(call, document, default, "WhatsAppBusinessAccount")


async def get_phone_numbers(call: Call, waba: Waba) -> dict[str, Any]:
    numbers = [number for number in call.sandbox.world.numbers.values() if number.waba is waba]
    kind = "WhatsAppBusinessPhoneNumber"
    rows = [_project(call, _number(number), NUMBER_FIELDS, kind) for number in numbers]
    return _page(call, rows, f"{waba.id}/phone_numbers")


async def get_subscribed_apps(_call: Call, waba: Waba) -> dict[str, Any]:
    rows = []
    for app_id, override in waba.subscriptions.items():
        row: dict[str, Any] = {
            "whatsapp_business_api_data": {
                "id": app_id,
                "name": f"App {app_id}",
                "link": f"https://www.facebook.com/games/?app_id={app_id}",
            }
        }
        if override is not None:
            row["override_callback_uri"] = override.url
        rows.append(row)
    return {"data": rows}


async def post_subscribed_apps(call: Call, waba: Waba) -> dict[str, Any]:
    """Subscribe the token's app; a callback of its own for this account is verified before it is taken."""
    url, verify_token = call.params.get("override_callback_uri"), call.params.get("verify_token")
    override = None
    if url is not None:
        if not isinstance(url, str) or len(url) > 200:
            raise invalid("Param override_callback_uri must be a string of at most 200 characters.")
        await _verify(call, url, verify_token)
        override = Override(url, str(verify_token))
    waba.subscriptions[call.token.app.id] = override
    return dict(_SUCCESS)


async def delete_subscribed_apps(call: Call, waba: Waba) -> dict[str, Any]:
    waba.subscriptions.pop(call.token.app.id, None)
    return dict(_SUCCESS)


async def get_subscriptions(call: Call, app: App) -> dict[str, Any]:
    _need_app_token(call)
    if app.callback_url is None:
        return {"data": []}
    fields = sorted(app.fields) if app.fields is not None else ["messages"]
    row = {
        "object": "whatsapp_business_account",
        "callback_url": app.callback_url,
        "active": True,
        "fields": [{"name": name, "version": call.version} for name in fields],
    }
    return {"data": [row]}


async def post_subscriptions(call: Call, app: App) -> dict[str, Any]:
    """Set the app's callback: verified first, as at Meta."""
    _need_app_token(call)
    if call.params.get("object") != "whatsapp_business_account":
        raise invalid("Param object must be one of {WHATSAPP_BUSINESS_ACCOUNT}.")
    url, verify_token = call.params.get("callback_url"), call.params.get("verify_token")
    if not isinstance(url, str):
        raise invalid("The parameter callback_url is required.")
    await _verify(call, url, verify_token)
    fields = call.params.get("fields")
    names = fields.split(",") if isinstance(fields, str) else fields
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        app.fields = frozenset(name.strip() for name in names)
    app.verify_token = str(verify_token)
    call.sandbox.set_callback(app, url)
    return dict(_SUCCESS)


async def delete_subscriptions(call: Call, app: App) -> dict[str, Any]:
    _need_app_token(call)
    app.callback_url = None
    return dict(_SUCCESS)


async def _verify(call: Call, url: str, verify_token: Any) -> None:
    if not isinstance(verify_token, str) or not verify_token:
        raise invalid("The parameter verify_token is required.")
    try:
        check_url(url)
    except ValueError as error:
        raise GraphError(2200, message=f"Callback verification failed: {error}") from error
    reason = await call.sandbox.webhooks.verify_once(url, verify_token)
    if reason is not None:
        words = f"Callback verification failed with the following errors: {reason}"
        raise GraphError(2200, message=words)


def _need_app_token(call: Call) -> None:
    if not call.token.app_token:
        raise GraphError(15, message="This method must be called with an app access_token.")


async def debug_token(call: Call, _node: None) -> dict[str, Any]:
    value = call.params.get("input_token")
    if not isinstance(value, str):
        raise invalid("The parameter input_token is required.")
    token = call.sandbox.world.tokens.get(value)
    if token is None or token.app.id != call.token.app.id:
        error = {"code": 190, "message": "Invalid OAuth access token."}
        return {"data": {"is_valid": False, "scopes": [], "error": error}}
    granted = [{"scope": scope, "target_ids": sorted(token.waba_ids)} for scope in SCOPES]
    return {
        "data": {
            "app_id": token.app.id,
            "type": "SYSTEM_USER",
            "application": f"App {token.app.id}",
            "data_access_expires_at": 0,
            "expires_at": 0,
            "is_valid": True,
            "issued_at": int(time.time()),
            "scopes": list(SCOPES),
            "granular_scopes": granted,
            "user_id": token.app.id[::-1],
        }
    }


async def app_access_token(call: Call, _node: None) -> dict[str, Any]:
    """`GET /oauth/access_token?grant_type=client_credentials`."""
    if call.params.get("grant_type") != "client_credentials":
        raise invalid("The sandbox knows grant_type=client_credentials only.")
    app = call.sandbox.world.apps.get(str(call.params.get("client_id")))
    if app is None or call.params.get("client_secret") != app.secret:
        raise GraphError(1, message="Error validating client secret.")
    return {"access_token": f"{app.id}|{app.secret}", "token_type": "bearer"}


def _project(call: Call, document: dict[str, Any], default: tuple[str, ...], kind: str) -> dict[str, Any]:
    """The fields that were asked for; `id` always comes along."""
    asked = call.params.get("fields")
    names = _field_names(asked) if isinstance(asked, str) and asked else list(default)
    for name in names:
        if name not in document:
            raise GraphError(100, message=f"Tried accessing nonexisting field ({name}) on node type ({kind})")
    return {name: document[name] for name in dict.fromkeys([*names, "id"])}


def _field_names(fields: str) -> list[str]:
    """Names at the top level of `a,b{c,d},e.limit(3)`."""
    names, depth, name = [], 0, ""
    for character in fields + ",":
        if character in "{(":
            depth += 1
        elif character in "})":
            depth -= 1
        elif character == "," and depth == 0:
            names.append(name.partition(".")[0].strip())
            name = ""
        elif depth == 0:
            name += character
    return [name for name in names if name]


def _page(call: Call, rows: list[dict[str, Any]], path: str) -> dict[str, Any]:
    limit_text = str(call.params.get("limit", PAGE_DEFAULT))
    if not limit_text.isascii() or not limit_text.isdecimal() or not 1 <= int(limit_text[:6]) <= PAGE_MAX:
        raise invalid(f"Param limit must be a number from 1 to {PAGE_MAX}.")
    limit = int(limit_text)
    start = _position(call.params["after"]) + 1 if call.params.get("after") else 0
    chosen = rows[start : start + limit]
    page: dict[str, Any] = {"data": chosen}
    if chosen:
        after = _cursor(start + len(chosen) - 1)
        page["paging"] = {"cursors": {"before": _cursor(start), "after": after}}
        if start + limit < len(rows):
            url = f"{call.base_url}/{call.version}/{path}"
            page["paging"]["next"] = f"{url}?access_token={call.token.value}&limit={limit}&after={after}"
    return page


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"at:{position}".encode()).decode()


def _position(cursor: Any) -> int:
    try:
        return int(base64.urlsafe_b64decode(str(cursor)).decode().removeprefix("at:"))
    except (binascii.Error, ValueError) as error:
        raise GraphError(131059, "The cursor is not valid or has expired.") from error


ROUTES: Final[dict[tuple[type[Node], str, str], Handler]] = {
    (Number, "POST", "messages"): send_message,
    (Number, "GET", ""): get_number,
    (Waba, "GET", ""): get_waba,
    (Waba, "GET", "phone_numbers"): get_phone_numbers,
    (Waba, "GET", "subscribed_apps"): get_subscribed_apps,
    (Waba, "POST", "subscribed_apps"): post_subscribed_apps,
    (Waba, "DELETE", "subscribed_apps"): delete_subscribed_apps,
    (App, "GET", "subscriptions"): get_subscriptions,
    (App, "POST", "subscriptions"): post_subscriptions,
    (App, "DELETE", "subscriptions"): delete_subscriptions,
}
ROOT_ROUTES: Final[dict[tuple[str, str], Handler]] = {
    ("GET", "debug_token"): debug_token,
    ("GET", "oauth/access_token"): app_access_token,
    ("POST", "oauth/access_token"): app_access_token,
}
