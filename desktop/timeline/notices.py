"""What the agent is told under a message that is not simply on its way, and what can be done about it."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from desktop.cache.rows import MessageRow, OutboxState, Unsent
from desktop.timeline.hit import Action
from desktop.ui.times import clock
from shared.delivery import DeliveryStatus

PATIENCE: Final = timedelta(seconds=10)
"""How long a message may be on its way before words say so."""


class Notice(NamedTuple):
    """`grave`: it needs the agent. `due`: when to ask again, where time alone changes the answer."""

    words: str = ""
    actions: tuple[Action, ...] = ()
    grave: bool = False
    due: datetime | None = None


_NONE: Final = Notice()
_MAYBE_SENT: Final = "The customer may have received it all the same."


def notice_for(row: MessageRow, now: datetime) -> Notice:
    """The notice of `row` at `now`; an empty one if there is nothing to say."""
    if row.unsent is not None:
        return _of_unsent(row.unsent, row.sent_at, now)
    match row.status:
        case DeliveryStatus.QUEUED | DeliveryStatus.SENDING:
            if now - row.sent_at < PATIENCE:
                return Notice(due=row.sent_at + PATIENCE)
            return Notice("Waiting for WhatsApp to confirm this message.")
        case DeliveryStatus.UNCONFIRMED:
            return Notice(
                "WhatsApp did not confirm this message. It may have arrived; it is not sent again by itself, "
                "so that the customer does not get it twice.",
                (Action.WRITE_AGAIN,),
            )
        case DeliveryStatus.FAILED:
            words = _sentences(row.error.title, row.error.advice) if row.error else "WhatsApp refused it."
            return Notice(_sentences("Not sent", words), (Action.WRITE_AGAIN,), grave=True)
        case DeliveryStatus.CANCELLED:
            return Notice("Cancelled before it was sent.")
    return _NONE


def _of_unsent(unsent: Unsent, written_at: datetime, now: datetime) -> Notice:
    match unsent.state:
        case OutboxState.WEDGED:
            words = _sentences(
                "Not sent", unsent.title, unsent.advice, _MAYBE_SENT if unsent.maybe_sent else ""
            )
            return Notice(words, (Action.RETRY, Action.EDIT, Action.DELETE), grave=True)
        case OutboxState.RETRY_WAIT:
            again = f"Next try at {clock(unsent.next_at)}" if unsent.next_at else ""
            words = _sentences(unsent.title or "Not sent yet", again)
            return Notice(words, (Action.RETRY, Action.EDIT, Action.DELETE))
        case _ if now - written_at < PATIENCE:
            return Notice(due=written_at + PATIENCE)
        case OutboxState.SENDING:
            return Notice("Still waiting for the relay’s answer.")
        case OutboxState.QUEUED:
            return Notice("Waiting to be sent.", (Action.EDIT, Action.DELETE))


def _sentences(*parts: str) -> str:
    return " ".join(part if part.endswith((".", "!", "?", "…")) else f"{part}." for part in parts if part)
