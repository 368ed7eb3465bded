"""Faults on demand: what goes wrong with the next sends, or with a share of them."""

import itertools
import random
from typing import Annotated, Final, Literal

import msgspec

Kind = Literal["refuse", "fail", "drop_before", "drop_after", "http_error", "delay", "mute"]

BEFORE: Final[frozenset[Kind]] = frozenset({"refuse", "drop_before", "http_error"})
AFTER: Final[frozenset[Kind]] = frozenset({"fail", "drop_after", "delay", "mute"})


class NewFault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A fault to set up. Only sends in good form meet it.

    refuse: answer with the error `code`. fail: accept, then a status "failed" with `code`.
    drop_before: cut the connection, nothing was accepted. drop_after: accept, then cut the connection.
    http_error: answer `http_status` with an HTML page as Meta's edge does, nothing was accepted.
    delay: accept, answer `seconds` later. mute: accept, never send a status.
    """

    kind: Kind
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """How many sends it meets; None: 1 if `rate` is 1, else any number."""
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """The share of sends that it meets."""
    code: int = 131000
    details: str | None = None
    http_status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 502
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    cut: Literal["reset", "close", "half"] = "reset"
    """How a connection ends: with a reset, in good order without an answer, or amid the answer."""
    phone_number_id: str | None = None
    recipient: str | None = None
    """Only sends of this number; only sends to this customer (phone digits or BSUID)."""


class Fault(NewFault, kw_only=True):
    """A fault that is set up, and how often it happened."""

    id: int
    left: int | None
    """Sends it will still meet; None: any number."""
    hits: int = 0


class Faults:
    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._numbering = itertools.count(1)
        self.clear()

    def clear(self) -> None:
        self._rng = random.Random(f"{self._seed}/faults")  # noqa: S311
        self.active: dict[int, Fault] = {}

    def add(self, new: NewFault) -> Fault:
        values = {name: getattr(new, name) for name in NewFault.__struct_fields__}
        left = 1 if new.times is None and new.rate == 1.0 else new.times
        fault = Fault(**values, id=next(self._numbering), left=left)
        self.active[fault.id] = fault
        return fault

    def strike(self, kinds: frozenset[Kind], number_id: str, recipients: set[str]) -> list[Fault]:
        """The faults of these kinds that this send meets; each is counted."""
        struck: list[Fault] = []
        for fault in self.active.values():
            if (
                fault.kind in kinds
                and fault.left != 0
                and fault.phone_number_id in {None, number_id}
                and (fault.recipient is None or fault.recipient in recipients)
                and (fault.rate == 1.0 or self._rng.random() < fault.rate)
            ):
                fault.hits += 1
                if fault.left is not None:
                    fault.left -= 1
                struck.append(fault)
                if kinds is BEFORE:  # the first one ends the send
                    break
        return struck
