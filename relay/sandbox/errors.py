"""Errors as Meta words and shapes them. The code decides the HTTP status and the title."""

from typing import Any, Final

CODES: Final[dict[int, tuple[int, str]]] = {
    0: (401, "AuthException"),
    1: (400, "An unknown error has occurred."),
    2: (503, "Service temporarily unavailable"),
    3: (500, "Application does not have the capability to make this API call."),
    4: (400, "Application request limit reached"),
    10: (403, "Application does not have permission for this action"),
    33: (400, "Parameter value is not valid"),
    100: (400, "Invalid parameter"),
    104: (401, "An access token is required to request this resource."),
    190: (401, "Invalid OAuth access token - Cannot parse access token"),
    200: (403, "Permissions error"),
    368: (403, "Temporarily blocked for policies violations"),
    2200: (400, "Callback verification failed"),
    2500: (400, "Unknown path components"),
    80007: (400, "Rate limit issues"),
    130429: (400, "Rate limit hit"),
    130472: (400, "User's number is part of an experiment"),
    130497: (403, "Business account is restricted from messaging users in this country."),
    131000: (500, "Something went wrong"),
    131005: (403, "Access denied"),
    131008: (400, "Required parameter is missing"),
    131009: (400, "Parameter value is not valid"),
    131016: (500, "Service unavailable"),
    131021: (400, "Recipient cannot be sender"),
    131026: (400, "Message undeliverable"),
    131030: (400, "Recipient phone number not in allowed list"),
    131031: (403, "Business Account locked"),
    131037: (400, "WhatsApp provided number needs display name approval before message can be sent."),
    131042: (400, "Business eligibility payment issue"),
    131045: (500, "Incorrect certificate"),
    131047: (400, "Re-engagement message"),
    131048: (400, "Spam rate limit hit"),
    131049: (400, "This message was not delivered to maintain healthy ecosystem engagement."),
    131050: (400, "User has stopped marketing messages"),
    131051: (400, "Unsupported message type"),
    131052: (400, "Media download error"),
    131053: (400, "Media upload error"),
    131056: (400, "(Business Account, Consumer Account) pair rate limit hit"),
    131057: (500, "Account in maintenance mode"),
    131059: (400, "Invalid cursor"),
    131062: (400, "Business-scoped user id is not supported as recipient here"),
    131064: (400, "Messaging limit reached"),
    132000: (400, "Number of parameters does not match the expected number of params"),
    132001: (404, "Template name does not exist in the translation"),
    132015: (400, "Template is paused"),
    132016: (400, "Template is disabled"),
    133004: (503, "Server temporarily unavailable"),
    133010: (400, "Phone number not registered"),
    135000: (400, "Generic user error"),
    137000: (400, "Recipient identity key hash mismatch"),
}
"""Code → (HTTP status, title), from Meta's error reference; throttling uses 400 as that page does."""

_HREF: Final = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"
OAUTH_EXCEPTION: Final = "OAuthException"
METHOD_EXCEPTION: Final = "GraphMethodException"


def title_of(code: int) -> str:
    """Meta's title of a code; a general one for a code that is not in the table."""
    return CODES[code][1] if code in CODES else "Something went wrong"


class GraphError(Exception):
    """A refusal in Meta's envelope.

    `message` replaces the title in the words, `subcode` and `details` appear as Meta's fields of that name.
    """

    def __init__(
        self,
        code: int,
        details: str | None = None,
        *,
        message: str | None = None,
        subcode: int | None = None,
        kind: str = OAUTH_EXCEPTION,
        status: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {details or message or title_of(code)}")
        self.code = code
        self.status = status or (CODES[code][0] if code in CODES else 400)
        self._details = details
        self._message = message
        self._subcode = subcode
        self._kind = kind

    @property
    def words(self) -> str:
        """The title, or what replaces it, without the code."""
        return self._message or title_of(self.code)

    def envelope(self, fbtrace_id: str) -> dict[str, Any]:
        # Token and path errors carry no "(#code)" in their words, the rest do.
        prefix = "" if self.code in {104, 190, 2500} or self._kind == METHOD_EXCEPTION else f"(#{self.code}) "
        error: dict[str, Any] = {"message": prefix + self.words, "type": self._kind, "code": self.code}
        if self._subcode is not None:
            error["error_subcode"] = self._subcode
        if self._details is not None:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self._details}
        error["fbtrace_id"] = fbtrace_id
        return {"error": error}


def invalid(details: str) -> GraphError:
    """Code 100 about one parameter."""
    return GraphError(100, details, message=details)


def no_such_object(method: str, object_id: str) -> GraphError:
    """Code 100, subcode 33: an id that does not exist or the token may not see; Meta does not say which."""
    return GraphError(
        100,
        message=f"Unsupported {method.lower()} request. Object with ID '{object_id}' does not exist, cannot "
        "be loaded due to missing permissions, or does not support this operation. Please read the Graph API "
        "documentation at https://developers.facebook.com/docs/graph-api",
        subcode=33,
        kind=METHOD_EXCEPTION,
    )


def webhook_error(code: int, details: str) -> dict[str, Any]:
    """The error object of webhooks, with `href` and `title` in place of the envelope's fields."""
    title = title_of(code)
    return {"code": code, "title": title, "message": title, "error_data": {"details": details}, "href": _HREF}
