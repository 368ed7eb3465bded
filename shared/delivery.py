"""The status ladder of a message: ticks only move forward, in whatever order Meta delivers them.

    queued → sending → accepted → sent → delivered → read → played
       │        ├────→ unconfirmed          (Meta's answer was lost; late proof moves it on)
       │        └────→ failed               (unless delivery was already seen)
       └─────────────→ cancelled

Source of the ranks: Meta's status webhooks, docs page "Status messages webhook reference".
"""

from enum import StrEnum
from typing import Final


class DeliveryStatus(StrEnum):
    """Where a message stands. Inbound messages are `RECEIVED` for good."""

    RECEIVED = "received"
    QUEUED = "queued"
    SENDING = "sending"
    UNCONFIRMED = "unconfirmed"
    ACCEPTED = "accepted"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"
    FAILED = "failed"
    CANCELLED = "cancelled"


RANK: Final[dict[DeliveryStatus, int]] = {
    DeliveryStatus.QUEUED: 0,
    DeliveryStatus.SENDING: 10,
    DeliveryStatus.UNCONFIRMED: 20,
    DeliveryStatus.ACCEPTED: 30,
    DeliveryStatus.SENT: 40,
    # Failure outranks "sent" but not proof that the customer has the message.
    DeliveryStatus.FAILED: 50,
    DeliveryStatus.CANCELLED: 50,
    DeliveryStatus.DELIVERED: 60,
    DeliveryStatus.READ: 70,
    DeliveryStatus.PLAYED: 80,
    DeliveryStatus.RECEIVED: 100,
}
"""Stored beside the status, so that SQL can keep the higher one with one comparison."""


def advance(current: DeliveryStatus, reported: DeliveryStatus) -> DeliveryStatus:
    """The status after `reported` arrives: the higher of the two, the current one on a tie."""
    return reported if RANK[reported] > RANK[current] else current
