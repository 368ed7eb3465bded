"""The customer service window: free-form messages are allowed for 24 hours after the customer's last one.

Computed from Meta's timestamps (when the customer sent), not from arrival.
Source: Meta, "Sending messages", customer service windows.
"""

from datetime import datetime, timedelta
from typing import Final

WINDOW: Final = timedelta(hours=24)


def closes_at(last_inbound_at: datetime | None) -> datetime | None:
    """When the window closes or closed; None if the customer never wrote."""
    return None if last_inbound_at is None else last_inbound_at + WINDOW


def is_open(last_inbound_at: datetime | None, now: datetime) -> bool:
    """Whether a free-form message sent at `now` is allowed."""
    closes = closes_at(last_inbound_at)
    return closes is not None and now < closes
