"""What an error of Meta's means for us: what to do next, and what to tell the agent.

Only `code` decides (with `error_subcode` where Meta hides the real code there): HTTP statuses and titles
are not reliable, and one code has been seen with several of them.
"""

from typing import Final

from relay.meta.error_table import (
    EDGE,
    TABLE,
    UNKNOWN_MAYBE_DONE,
    UNKNOWN_REFUSED,
    Kind,
    Meaning,
)
from shared.wire.inbox import SendError

LIMITS: Final = frozenset({Kind.LIMIT_NUMBER, Kind.LIMIT_PAIR, Kind.LIMIT_APP, Kind.LIMIT_WABA})
STOPS: Final = frozenset({Kind.STOP_CREDENTIAL, Kind.STOP_NUMBER, Kind.STOP_ACCOUNT})

QUOTE_MAX_CHARS: Final = 300

# Codes under which Meta sends the real one as `error_subcode`.
_WRAPPERS: Final = frozenset({100, 192})
# Kinds where Meta's own words say which part of the message it did not like.
_WORTH_QUOTING: Final = frozenset({Kind.BAD_MESSAGE, Kind.BAD_TEMPLATE, Kind.BUG, Kind.OPERATOR})


def classify(
    code: int | None,
    *,
    subcode: int | None = None,
    http_status: int | None = None,
    is_transient: bool = False,
) -> Meaning:
    """What an error means. An unknown code is judged by the HTTP status: at 5xx it may have been executed.

    `code` is None where the answer was not in Meta's envelope; `http_status` is None for errors that arrive
    by webhook, which are final answers.
    """
    found = TABLE.get(subcode) if subcode is not None and code in _WRAPPERS else None
    if found is None and code is not None:
        found = TABLE.get(code)
    if found is None and code is None and http_status is not None:
        found = EDGE.get(http_status)
    if found is None:
        found = UNKNOWN_MAYBE_DONE if http_status is not None and http_status >= 500 else UNKNOWN_REFUSED
    if is_transient and found.kind in {Kind.BUG, Kind.BAD_MESSAGE}:
        return UNKNOWN_MAYBE_DONE
    return found


def is_known(code: int) -> bool:
    """Whether the table has this code; one that it lacks should be looked up and added."""
    return code in TABLE


def explain(code: int | None, details: str = "", *, subcode: int | None = None) -> SendError:
    """Words for the agent about a message that failed. `details` is Meta's own text, quoted if it helps."""
    found = classify(code, subcode=subcode)
    advice = found.advice
    quote = " ".join(details.split())
    if quote and (found.kind in _WORTH_QUOTING):
        if len(quote) > QUOTE_MAX_CHARS:
            quote = quote[: QUOTE_MAX_CHARS - 1] + "…"
        advice = f"{advice} WhatsApp says: “{quote}”"
    return SendError(title=found.title, advice=advice, meta_code=code)
