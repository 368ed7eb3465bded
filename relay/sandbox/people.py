"""Scripted customers: they open conversations, answer what agents write, nudge, and go silent."""

import asyncio
import logging
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

import msgspec

from relay.sandbox.inbound import Inbound
from relay.sandbox.state import Customer, IdentityMode, Send, World

log = logging.getLogger("relay.sandbox.people")

USUAL_PACE: Final = 4.0
"""Seconds between openings at which people also type and answer at a natural speed."""

_IDENTITIES: Final[tuple[IdentityMode, ...]] = ("phone+bsuid", "bsuid", "phone")
_SILENT_SHARE: Final = 0.15


class Dialogue(msgspec.Struct, frozen=True):
    """`open` are the first messages, `replies` what is said after each answer of the agent."""

    open: list[str]
    replies: list[list[str]]


class Region(msgspec.Struct, frozen=True):
    """People of one place: `phone` has # for the digits that differ."""

    language: str
    country: str
    phone: str
    names: list[str]
    nudge: list[str]
    dialogues: list[Dialogue]


@dataclass(slots=True)
class Person:
    customer: Customer
    region: Region
    number_index: int
    dialogues: list[Dialogue]
    """In the order in which this person comes up with them; the first one is next."""
    replies: list[list[str]] = field(default_factory=list)
    """What is still to be said in the open conversation."""
    nudged: bool = False
    talking: bool = False


class People:
    """A crowd whose words and habits depend on the seed alone; agents decide what of it is heard."""

    def __init__(self, world: World, inbound: Inbound, seed: str) -> None:
        self._world = world
        self._inbound = inbound
        self._seed = seed
        self._rng = random.Random(f"{seed}/people")  # noqa: S311
        self._persons: dict[str, Person] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._speed = 1.0

    @property
    def count(self) -> int:
        return len(self._persons)

    def start(self, count: int, pace: float) -> None:
        """Bring `count` more customers who open a conversation every `pace` seconds on average."""
        regions = msgspec.json.decode(
            files("relay.sandbox").joinpath("people.json").read_bytes(), type=list[Region]
        )
        self._speed = pace / USUAL_PACE
        for _ in range(count):
            person = self._someone(regions)
            self._persons[person.customer.key] = person
        self._spawn(self._open_conversations(list(self._persons.values()), pace))

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._persons.clear()
        self._rng = random.Random(f"{self._seed}/people")  # noqa: S311

    def saw(self, send: Send) -> None:
        """A message of the business reached someone; people of the crowd may answer it."""
        person = self._persons.get(send.customer.key)
        if person is None or person.talking or not person.replies:
            return
        lines = person.replies.pop(0)
        if self._rng.random() < _SILENT_SHARE:
            person.replies.clear()
            return
        self._spawn(self._talk(person, lines, first_pause=self._rng.uniform(2.0, 9.0)))

    def _someone(self, regions: list[Region]) -> Person:
        rng = self._rng
        index = len(self._persons)
        # No region comes twice before all came once, so that a few people already speak many languages.
        if index % len(regions) == 0:
            rng.shuffle(regions)
        region = regions[index % len(regions)]
        taken = {person.customer.name for person in self._persons.values()}
        free = [name for name in region.names if name not in taken]
        name = free[0] if free else f"{rng.choice(region.names)} {index}"
        while True:
            phone = "".join(str(rng.randrange(10)) if c == "#" else c for c in region.phone)
            if phone not in self._persons:
                break
        identity = rng.choices(_IDENTITIES, weights=(60, 25, 15))[0]
        reads = None if rng.random() < 0.85 else False
        customer = Customer(phone, phone, name, region.country, identity, reads)
        self._world.add_customer(customer)
        dialogues = rng.sample(region.dialogues, len(region.dialogues))
        return Person(customer, region, int(rng.random() < 0.25), dialogues)

    async def _open_conversations(self, persons: list[Person], pace: float) -> None:
        """Everybody comes up once in each round, in a new order; the first ones are there at once."""
        while True:
            for person in self._rng.sample(persons, len(persons)):
                if not person.talking:
                    self._spawn(self._talk(person, self._next_opening(person), first_pause=0.0))
                await asyncio.sleep(self._rng.expovariate(1 / pace))

    def _next_opening(self, person: Person) -> list[str]:
        if person.replies and not person.nudged:
            person.nudged = True
            return [self._rng.choice(person.region.nudge)]
        dialogue = person.dialogues.pop(0)
        person.dialogues.append(dialogue)
        person.replies = list(dialogue.replies)
        person.nudged = False
        return dialogue.open

    async def _talk(self, person: Person, lines: list[str], first_pause: float) -> None:
        person.talking = True
        try:
            pause = first_pause
            for line in lines:
                await asyncio.sleep(pause * self._speed)
                numbers = list(self._world.numbers.values())
                number = numbers[person.number_index % len(numbers)]
                self._inbound.say(person.customer, number, {"type": "text", "text": {"body": line}})
                pause = self._rng.uniform(1.0, 2.0) + len(line) * 0.03
        finally:
            person.talking = False

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("a customer broke off", exc_info=problem)
