"""How the emulator behaves: everything that the control API can turn at run time."""

from typing import Annotated, Literal

import msgspec

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Speed = Annotated[
    float, msgspec.Meta(ge=0, description="1 is Meta's pace, 10 ten times that, 0 switches off")
]


class Settings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Behaviour of the whole sandbox. Ranges of seconds are drawn from evenly: [least, most]."""

    read_receipts: bool = True
    """Whether customers who have no setting of their own send "read"."""

    service_window: Literal["async", "sync", "off"] = "async"
    """Refuse text outside 24 hours: accepted and then failed (131047), refused at once, or not at all."""

    pair_limit_speed: Speed = 1.0
    """One message per 6 s to the same person, 45 at once (131056)."""

    number_limit_speed: Speed = 1.0
    """80 messages per second and number, both directions (130429)."""

    answer_seconds: tuple[Seconds, Seconds] = (0.0, 0.0)
    """How long the answer to a send takes."""

    sent_seconds: tuple[Seconds, Seconds] = (0.05, 0.3)
    delivered_seconds: tuple[Seconds, Seconds] = (0.1, 1.0)
    read_seconds: tuple[Seconds, Seconds] = (0.5, 3.0)
    """From acceptance to "sent", from there to "delivered", from there to "read"."""

    order: Literal["natural", "random"] = "natural"
    """Random: a message's statuses arrive in any order, and every event waits up to `scatter_seconds`."""

    scatter_seconds: Seconds = 0.3

    duplicate_rate: Rate = 0.0
    """The share of events that are delivered a second time, in a POST of their own or with others."""

    batch_max: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    """Most updates in one POST."""

    batch_seconds: Seconds = 0.0
    """How long an update may wait for others to share its POST."""

    parallel: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8
    """POSTs under way at once to one callback. With 1 they arrive in order."""

    timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """How long a callback may take to answer."""

    retry_scale: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """Scales the pauses between retries and the 7 days after which an update is given up."""

    retry_max_pause: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    """The longest pause between two tries, in seconds, not scaled."""

    def __post_init__(self) -> None:
        for name in ("answer_seconds", "sent_seconds", "delivered_seconds", "read_seconds"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name}: the least ({least}) is more than the most ({most})")

    def replace_by(self, other: "Settings") -> None:
        """Take over every value of `other`; parts of the sandbox hold on to this object."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(other, name))
