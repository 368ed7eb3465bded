"""Meta's error codes as data: what each asks of us, and words for the people who see it.

Source: Meta, "WhatsApp Business Platform error codes" and the pages of the endpoints named there. The words
are ours: a title says what happened, the advice says what to do now. Rules over this table: `errors`.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What an error asks of whoever sent the request."""

    RETRY = "retry"
    """Surely not executed: try again later."""
    RECONCILE = "reconcile"
    """May have been executed: find out before trying again."""
    LIMIT_NUMBER = "limit_number"
    """Too fast for this number."""
    LIMIT_PAIR = "limit_pair"
    """Too fast for this number and this recipient; others are not affected."""
    LIMIT_APP = "limit_app"
    """Too many calls of the whole app."""
    LIMIT_WABA = "limit_waba"
    """Too many calls for this WhatsApp Business account."""
    BAD_MESSAGE = "bad_message"
    """Refused for good; another message may pass."""
    BAD_RECIPIENT = "bad_recipient"
    """Refused for this recipient, for good or for long."""
    BAD_TEMPLATE = "bad_template"
    """Refused for this template until it changes."""
    STOP_CREDENTIAL = "stop_credential"
    """Nothing gets through until the access token or its permissions are put in order."""
    STOP_NUMBER = "stop_number"
    """Nothing gets through until the number is put in order."""
    STOP_ACCOUNT = "stop_account"
    """Nothing gets through until the WhatsApp Business account is put in order."""
    BUG = "bug"
    """The request itself is wrong."""
    OPERATOR = "operator"
    """A step of setting up, such as registration or names, that its operator must repair."""
    NOTICE = "notice"
    """Says something about an inbound message or a job already done; nothing was refused."""


class Meaning(NamedTuple):
    """One row of the table.

    `hold_seconds`: how long the number should rest before its next message, 0 for the usual back-off.
    `final`: a stop where waiting is pointless or forbidden, so the message fails at once.
    """

    kind: Kind
    title: str
    advice: str
    hold_seconds: int = 0
    final: bool = False


_ASK_ADMIN: Final = "Ask an administrator"

_ACCESS_LOST: Final = Meaning(
    Kind.STOP_CREDENTIAL,
    "WhatsApp no longer accepts our access to this number",
    f"{_ASK_ADMIN} to connect the number again. Waiting messages go out once it is connected.",
)
_PERMISSION_MISSING: Final = Meaning(
    Kind.STOP_CREDENTIAL,
    "Our access to this number lacks a permission",
    f"{_ASK_ADMIN} to connect the number again and to grant every permission that is asked for. "
    "Waiting messages go out once that is done.",
)
_CONTENT_REFUSED: Final = Meaning(
    Kind.BAD_MESSAGE,
    "WhatsApp does not accept this content",
    "Change the message and send it again.",
)
_MAYBE_DONE: Final = Meaning(
    Kind.RECONCILE,
    "WhatsApp had a problem of its own",
    "We are finding out whether the message was sent. If it does not change soon, check with the customer "
    "before sending it again.",
)
_WRONG_REQUEST: Final = Meaning(
    Kind.BUG,
    "WhatsApp did not understand this message",
    "This is a fault in the program. Please report it with the time and the code.",
)
_SERVICE_BUSY: Final = Meaning(
    Kind.RETRY,
    "WhatsApp is not available at the moment",
    "There is nothing to do: the message goes out as soon as WhatsApp is back.",
)
_NUMBER_BUSY: Final = Meaning(
    Kind.LIMIT_NUMBER,
    "This number sends faster than WhatsApp allows",
    "There is nothing to do: the message waits and goes out shortly.",
)
_APP_BUSY: Final = Meaning(
    Kind.LIMIT_APP,
    "We call WhatsApp more often than it allows",
    "There is nothing to do: the message waits and goes out within minutes.",
    hold_seconds=60,
)
_ACCOUNT_BUSY: Final = _APP_BUSY._replace(kind=Kind.LIMIT_WABA)
_PAIR_BUSY: Final = Meaning(
    Kind.LIMIT_PAIR,
    "Too many messages to this customer in a short time",
    "There is nothing to do: the message waits and goes out shortly. A few longer messages pass faster than "
    "many short ones.",
)
_PAYMENT: Final = Meaning(
    Kind.STOP_ACCOUNT,
    "WhatsApp cannot charge for messages of this account",
    f"{_ASK_ADMIN} to check the payment method in Meta's Business settings. Waiting messages go out once it "
    "works.",
)
_REGISTRATION: Final = Meaning(
    Kind.OPERATOR,
    "Setting up the number did not work",
    f"{_ASK_ADMIN} to repeat this step of connecting the number.",
)
_TEMPLATE_CHANGED: Final = Meaning(
    Kind.BAD_TEMPLATE,
    "This template cannot be used now",
    "Choose another template, or ask an administrator to look at this one.",
)
_TEMPLATE_VALUES: Final = Meaning(
    Kind.BAD_MESSAGE,
    "The values do not fit this template",
    "Check every field of the template and send it again.",
)
_TEMPLATE_DESIGN: Final = Meaning(
    Kind.BUG,
    "WhatsApp does not accept this template's wording",
    "Correct the template and submit it again.",
)
_CALL: Final = Meaning(Kind.OPERATOR, "The call was not possible", "Write to the customer instead.")
_CALLS_BUSY: Final = Meaning(
    Kind.LIMIT_NUMBER, "Too many calls at the moment", "Try to call again in a few minutes."
)
_GROUP: Final = Meaning(
    Kind.OPERATOR,
    "WhatsApp refused this change to the group",
    "Check the group and its members, and try again.",
)


_ROWS: Final[tuple[tuple[Meaning, tuple[int, ...]], ...]] = (
    # Access and account
    (_ACCESS_LOST, (0, 102, 104, 190)),
    (_PERMISSION_MISSING, (3, 10, *range(200, 300), 131005)),
    (
        Meaning(
            Kind.STOP_ACCOUNT,
            "WhatsApp has restricted this account",
            f"{_ASK_ADMIN} to open the account's quality page at Meta and to ask for a review.",
        ),
        (368, 131031),
    ),
    (_PAYMENT, (131042, 131044)),
    (
        Meaning(
            Kind.STOP_ACCOUNT,
            "The terms for payments on WhatsApp are not accepted",
            f"{_ASK_ADMIN} to accept them in Meta's Business settings.",
        ),
        (134011,),
    ),
    (
        Meaning(
            Kind.STOP_ACCOUNT,
            "WhatsApp has reduced how many templates this account may send",
            f"{_ASK_ADMIN} to check the categories of the templates. Do not send this one again today.",
            final=True,
        ),
        (131064,),
    ),
    (
        Meaning(
            Kind.STOP_NUMBER,
            "This number is not ready to send",
            f"{_ASK_ADMIN} to check the number's registration, certificate and display name at Meta. "
            "Waiting messages go out once it is ready.",
        ),
        (33, 803, 131037, 131045, 133010),
    ),
    (
        Meaning(
            Kind.STOP_NUMBER,
            "WhatsApp limits this number because customers reported its messages",
            "Do not send this again now. Ask an administrator to check the number's quality, and write "
            "only to customers who expect it.",
            hold_seconds=300,
            final=True,
        ),
        (131048,),
    ),
    (
        Meaning(
            Kind.STOP_NUMBER,
            "This number was registered too often",
            "WhatsApp allows it again after three days. Until then nothing can be done.",
            final=True,
        ),
        (133016,),
    ),
    (
        Meaning(
            Kind.BAD_TEMPLATE,
            "Marketing templates are switched off for this account",
            f"{_ASK_ADMIN} to switch them on in Meta's Business settings.",
        ),
        (131063,),
    ),
    # Too fast
    (_APP_BUSY, (4, 17, 32)),
    (_ACCOUNT_BUSY, (80007, 80008)),
    (_NUMBER_BUSY, (613, 130429, 131208)),
    (_PAIR_BUSY, (131056,)),
    (
        _NUMBER_BUSY._replace(
            title="The PIN was tried too often", advice="Wait an hour, then enter the right PIN.", final=True
        ),
        (133008, 133009),
    ),
    (_CALLS_BUSY, (138002, 138005, 138009, 138012)),
    # Troubles of Meta's own
    (_MAYBE_DONE, (1, 2, 131000, 131016)),
    (_SERVICE_BUSY, (133004, 139102, 139103)),
    (
        _SERVICE_BUSY._replace(
            title="WhatsApp is changing this number's settings",
            advice="There is nothing to do: the message goes out in about a minute.",
            hold_seconds=60,
        ),
        (131057,),
    ),
    (
        _SERVICE_BUSY._replace(
            title="WhatsApp is working on this number",
            advice="There is nothing to do: the message goes out in a few minutes.",
            hold_seconds=300,
        ),
        (133000, 133015, 2494100),
    ),
    # This message
    (_WRONG_REQUEST, (100, 131008, 131055, 134100, 192, 2593079, 2593085)),
    (_CONTENT_REFUSED, (131009, 135000, 139200, 2388318, 2388330, 134103)),
    (
        Meaning(
            Kind.BAD_MESSAGE,
            "More than 24 hours have passed since the customer last wrote",
            "Send an approved template instead, or wait until the customer writes again.",
        ),
        (131047,),
    ),
    (
        Meaning(
            Kind.BAD_MESSAGE,
            "WhatsApp does not support this type of message here",
            "Send it in another form, such as text or a document.",
        ),
        (131051,),
    ),
    (
        Meaning(
            Kind.BAD_MESSAGE,
            "WhatsApp could not take the attached file",
            "Check the file's type and size, then send it again.",
        ),
        (131053,),
    ),
    (
        Meaning(
            Kind.BAD_MESSAGE,
            "This message can only be sent to a phone number",
            "Ask the customer for the phone number and write to that.",
        ),
        (131062,),
    ),
    (
        Meaning(
            Kind.BAD_MESSAGE,
            "The customer's WhatsApp identity has changed",
            "Make sure that this is still the same person before writing anything confidential.",
        ),
        (137000,),
    ),
    (
        Meaning(
            Kind.BAD_MESSAGE,
            "The customer is part of a test run by WhatsApp",
            "Marketing messages do not reach this customer for now. Other messages do.",
        ),
        (130472,),
    ),
    (
        Meaning(
            Kind.BAD_MESSAGE,
            "The group has no other members",
            "Invite somebody to the group first.",
        ),
        (131020,),
    ),
    (
        Meaning(
            Kind.BAD_MESSAGE,
            "Another assistant holds this conversation",
            "Wait until it hands the conversation over.",
        ),
        (2494191,),
    ),
    (
        Meaning(Kind.BUG, "The list changed while it was read", "Load the list again."),
        (131059,),
    ),
    # This recipient
    (
        Meaning(
            Kind.BAD_RECIPIENT,
            "The message could not be delivered",
            "The customer may not be on WhatsApp, may use an old version, or may have blocked this "
            "number. Try another way to reach them.",
        ),
        (131026,),
    ),
    (
        Meaning(
            Kind.BAD_RECIPIENT,
            "WhatsApp held this message back to protect the customer from too many offers",
            "Do not send it again within 24 hours. Replies to the customer's own messages are not affected.",
        ),
        (131049,),
    ),
    (
        Meaning(
            Kind.BAD_RECIPIENT,
            "The customer has stopped offers from this number",
            "Do not send marketing messages to this customer until they allow it again.",
        ),
        (131050,),
    ),
    (
        Meaning(
            Kind.BAD_RECIPIENT,
            "You have blocked this customer",
            "Unblock the customer to write to them again.",
        ),
        (130403,),
    ),
    (
        Meaning(
            Kind.BAD_RECIPIENT,
            "This account may not write to customers in that country",
            f"{_ASK_ADMIN} to check the account's status in Meta's Business settings.",
        ),
        (130497,),
    ),
    (
        Meaning(Kind.BAD_RECIPIENT, "A number cannot write to itself", "Choose another recipient."),
        (131021,),
    ),
    (
        Meaning(
            Kind.BAD_RECIPIENT,
            "This test number may only write to numbers on its list",
            f"{_ASK_ADMIN} to add the recipient to the test number's list in Meta's dashboard.",
        ),
        (131030,),
    ),
    (
        Meaning(
            Kind.BAD_RECIPIENT,
            "This number is not a member of the group",
            "Ask a member of the group for an invitation.",
        ),
        (131041,),
    ),
    # Templates
    (_TEMPLATE_VALUES, (132000, 132005, 132008, 132012, 132018)),
    (_TEMPLATE_CHANGED, (132001, 132007, 132016, 132068, 134102)),
    (
        _TEMPLATE_CHANGED._replace(
            title="WhatsApp has paused this template because customers rated it badly",
            advice="Choose another template. This one becomes available again after its pause.",
        ),
        (132015,),
    ),
    (_NUMBER_BUSY._replace(title="This form is used more often than WhatsApp allows"), (132069,)),
    (
        _SERVICE_BUSY._replace(
            title="WhatsApp is still preparing this template",
            advice="There is nothing to do: the message goes out in about ten minutes.",
            hold_seconds=600,
        ),
        (134101,),
    ),
    (
        Meaning(
            Kind.STOP_ACCOUNT,
            "This account has as many templates as WhatsApp allows",
            "Delete a template that is not needed.",
            final=True,
        ),
        (2388019,),
    ),
    (_TEMPLATE_DESIGN, (2388039, 2388040, 2388047, 2388072, 2388073, 2388293, 2388299)),
    (
        _TEMPLATE_DESIGN._replace(
            title="A template of this name exists or is being deleted", advice="Choose another name."
        ),
        (2388023, 2388024),
    ),
    # Setting up, calls, groups
    (
        _REGISTRATION,
        (
            *(2388001, 2388012, 2388091, 2388093, 2388103),
            *(133005, 133006, 136024, 136025, 36009),
            *(2593107, 2593108, 2593109),
            *(2494164, 2494165, 2494166, 2494167, 2494168, 2494176, 2494177, 2494179),
        ),
    ),
    (
        _REGISTRATION._replace(
            title="WhatsApp has no statistics for this template", advice="Switch template insights on first."
        ),
        (200005, 200006, 200007),
    ),
    (
        _REGISTRATION._replace(
            title="WhatsApp refused this user name",
            advice="Choose another name, or link the page it belongs to.",
        ),
        (147001, 147002, 147003, 147004, 147005),
    ),
    (
        _REGISTRATION._replace(
            title="WhatsApp refused this change to the form", advice="Check the form in Meta's editor."
        ),
        (139000, 139001, 139002, 139003, 139004),
    ),
    (
        _REGISTRATION._replace(
            title="Not every customer could be blocked", advice="Try again with fewer customers."
        ),
        (139100, 139101),
    ),
    (
        _CALL,
        (
            *(138000, 138001, 138003, 138004, 138006, 138007, 138013, 138014, 138015, 138017, 138018),
            *(138019, 138020, 138021, 138022, 138023),
        ),
    ),
    (_GROUP, (*(131201, 131202, 131204, 131207, 131209, 131210, 131211, 131212, 131213, 131214, 131215),)),
    (
        Meaning(
            Kind.NOTICE,
            "WhatsApp could not pass on a message of the customer",
            "Ask the customer to send it again, perhaps in another form.",
        ),
        (130501, 131052, 131060),
    ),
    (
        Meaning(Kind.NOTICE, "This number is connected already", "There is nothing to do."),
        (1752041,),
    ),
)

TABLE: Final[dict[int, Meaning]] = {code: row for row, codes in _ROWS for code in codes}

EDGE: Final[dict[int, Meaning]] = {
    # Not read by Meta's application at all.
    421: _SERVICE_BUSY,
    429: _APP_BUSY,
    # A proxy gave up on a request that may have gone on.
    408: _MAYBE_DONE,
}
"""Answers without Meta's envelope, by HTTP status."""

UNKNOWN_MAYBE_DONE: Final = _MAYBE_DONE
UNKNOWN_REFUSED: Final = Meaning(
    Kind.BAD_MESSAGE,
    "WhatsApp refused this message",
    "Change the message and try again. If that does not help, report the code.",
)
