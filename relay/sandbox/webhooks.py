"""Webhooks out: batched, signed, escaped like Meta's, delivered in parallel, retried until they are taken."""

import asyncio
import hashlib
import hmac
import itertools
import json
import logging
import random
import time
from collections import deque
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from relay.sandbox.callback_client import CallbackClient
from relay.sandbox.settings import Settings
from relay.sandbox.state import App, Waba, World
from relay.sandbox.timers import Timers

log = logging.getLogger("relay.sandbox.webhooks")

GIVE_UP_SECONDS: Final = 7 * 24 * 3600
BODY_MAX_BYTES: Final = 3_000_000
ATTEMPTS_KEPT: Final = 20_000
VERIFY_FOR_SECONDS: Final = 300.0
OVERRIDABLE: Final = frozenset({"messages", "message_echoes", "calls", "user_preferences", "history"})
_LISTS: Final = ("messages", "statuses", "errors")


@dataclass(slots=True)
class Event:
    """One update: a value with one message or one status in it."""

    waba_id: str
    field: str
    value: dict[str, Any]


@dataclass(slots=True)
class Parcel:
    """A body that is delivered as a whole, as often as it takes."""

    body: bytes
    updates: int
    since: float
    tries: int = 0


@dataclass(slots=True)
class Attempt:
    """One POST and its outcome."""

    id: int
    at: float
    url: str
    updates: int
    size: int
    attempt: int
    status: int | None
    error: str | None
    seconds: float


@dataclass(slots=True)
class Verification:
    """Where the GET verification of a callback stands: pending, verified or failed; with the last reason."""

    state: str
    reason: str | None = None


def meta_json(document: Any) -> bytes:
    """JSON as Meta writes it: slashes escaped, everything beyond ASCII as `\\u`."""
    # A slash can only stand inside a string, so replacing it in the whole text is safe.
    return json.dumps(document, separators=(",", ":")).replace("/", "\\/").encode()


def signature_headers(body: bytes, secret: str) -> dict[str, str]:
    key = secret.encode()
    return {
        "Content-Type": "application/json",
        "User-Agent": "facebookexternalua",
        "X-Hub-Signature": "sha1=" + hmac.new(key, body, hashlib.sha1).hexdigest(),
        "X-Hub-Signature-256": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
    }


def pack(events: Iterable[Event], rng: random.Random) -> dict[str, Any]:
    """Put updates into one envelope, sharing entries, changes and lists in a random way, as Meta may."""
    entries: list[dict[str, Any]] = []
    for event in events:
        entry = entries[-1] if entries else None
        if entry is None or entry["id"] != event.waba_id or rng.random() < 0.2:
            entry = {"id": event.waba_id}
            if event.field != "messages":
                entry["time"] = int(time.time())
            entry["changes"] = []
            entries.append(entry)
        changes = entry["changes"]
        if changes and rng.random() < 0.7 and _merge(changes[-1], event):
            continue
        changes.append({"field": event.field, "value": event.value})
    return {"object": "whatsapp_business_account", "entry": entries}


def _merge(change: dict[str, Any], event: Event) -> bool:
    """Add the event to a change of the same number and kind; False if they cannot share one."""
    mine: dict[str, Any] = change["value"]
    theirs = event.value
    kinds = [name for name in _LISTS if name in theirs]
    if (
        change["field"] != "messages"
        or event.field != "messages"
        or len(kinds) != 1
        or [name for name in _LISTS if name in mine] != kinds
        or mine.keys() - {"contacts"} != theirs.keys() - {"contacts"}
        or mine.get("metadata") != theirs.get("metadata")
    ):
        return False
    # Events are shared between apps and duplicates: build a new value rather than extend this one.
    merged = {**mine, kinds[0]: [*mine[kinds[0]], *theirs[kinds[0]]]}
    contacts = list(mine.get("contacts", []))
    contacts += [contact for contact in theirs.get("contacts", []) if contact not in contacts]
    if contacts:
        merged["contacts"] = contacts
    change["value"] = merged
    return True


@dataclass
class Outlet:
    """The way to one callback: what waits for it, what is on its way, whether it was verified."""

    app: App
    url: str
    verify_token: str
    verification: Verification
    queue: deque[Event] = field(default_factory=deque)
    due: deque[Parcel] = field(default_factory=deque)
    in_flight: int = 0
    resting: int = 0
    """Parcels between two tries."""
    pump_planned: bool = False

    @property
    def waiting(self) -> int:
        return len(self.queue) + len(self.due) + self.in_flight + self.resting


class Webhooks:
    """Publishes updates to every app that is subscribed to a business account."""

    def __init__(self, world: World, settings: Settings, timers: Timers, seed: str, *, verify: bool) -> None:
        self._world = world
        self._settings = settings
        self._verify = verify
        self._rng = random.Random(f"{seed}/webhooks")  # noqa: S311
        self._client = CallbackClient()
        self._outlets: dict[tuple[str, str], Outlet] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self._verifications: set[asyncio.Task[None]] = set()
        self._timers = timers
        self._numbering = itertools.count(1)
        self.paused = False
        self.attempts: deque[Attempt] = deque(maxlen=ATTEMPTS_KEPT)
        self.updates_published = 0
        self.posts_taken = 0
        self.posts_refused = 0
        self.updates_given_up = 0

    # Publishing

    def publish(self, waba: Waba, name: str, value: dict[str, Any]) -> None:
        """Send an update of the field `name` to all subscribed apps, now or later as the settings say."""
        settings = self._settings
        event = Event(waba.id, name, value)
        if settings.order == "random":
            self._enqueue_later(waba, event)
        else:
            self._enqueue(waba, event)
        if settings.duplicate_rate and self._rng.random() < settings.duplicate_rate:
            self._enqueue_later(waba, event)

    def _enqueue_later(self, waba: Waba, event: Event) -> None:
        self._timers.later(self._rng.uniform(0, self._settings.scatter_seconds), self._enqueue, waba, event)

    def _enqueue(self, waba: Waba, event: Event) -> None:
        self.updates_published += 1
        for app_id, override in waba.subscriptions.items():
            app = self._world.apps[app_id]
            if app.fields is not None and event.field not in app.fields:
                continue
            if override is not None and event.field in OVERRIDABLE:
                outlet = self.outlet(app, override.url, override.verify_token)
            elif app.callback_url is not None:
                outlet = self.outlet(app, app.callback_url, app.verify_token)
            else:
                continue
            outlet.queue.append(event)
            self._plan_pump(outlet)

    # Delivery

    def _plan_pump(self, outlet: Outlet) -> None:
        """Deliver at the end of this turn of the loop or of `batch_seconds`: updates can share a POST."""
        if outlet.pump_planned:
            return
        outlet.pump_planned = True
        self._timers.later(self._settings.batch_seconds, self._pump, outlet)

    def _pump(self, outlet: Outlet) -> None:
        outlet.pump_planned = False
        if self.paused or outlet.verification.state != "verified":
            return
        while outlet.in_flight < self._settings.parallel and (outlet.due or outlet.queue):
            parcel = outlet.due.popleft() if outlet.due else self._parcel(outlet)
            outlet.in_flight += 1
            _spawn(self._deliver(outlet, parcel), self._deliveries)

    def _parcel(self, outlet: Outlet) -> Parcel:
        count = min(len(outlet.queue), self._settings.batch_max)
        events = [outlet.queue.popleft() for _ in range(count)]
        body = meta_json(pack(events, self._rng))
        while len(body) > BODY_MAX_BYTES and len(events) > 1:
            half = len(events) // 2
            outlet.queue.extendleft(reversed(events[half:]))
            events = events[:half]
            body = meta_json(pack(events, self._rng))
        return Parcel(body, len(events), time.monotonic())

    async def _deliver(self, outlet: Outlet, parcel: Parcel) -> None:
        taken = False
        try:
            attempt = await self.post(
                outlet.url,
                parcel.body,
                signature_headers(parcel.body, outlet.app.secret),
                parcel.updates,
                parcel.tries,
            )
            taken = attempt.status == 200
        finally:
            outlet.in_flight -= 1
        if taken:
            self.posts_taken += 1
        else:
            self.posts_refused += 1
            self._rest(outlet, parcel)
        self._pump(outlet)

    async def post(
        self, url: str, body: bytes, headers: dict[str, str], updates: int, tries: int = 0
    ) -> Attempt:
        """One POST, whatever comes of it, on the record."""
        at, started = time.time(), time.monotonic()
        status, error = None, None
        try:
            answer = await self._client.call(
                "POST", url, headers, body, timeout=self._settings.timeout_seconds
            )
            status = answer.status
        except OSError as problem:
            error = f"{type(problem).__name__}: {problem}".rstrip(": ")
        attempt = Attempt(
            next(self._numbering), at, url, updates, len(body), tries + 1, status, error,
            time.monotonic() - started,
        )  # fmt: skip
        self.attempts.append(attempt)
        return attempt

    def _rest(self, outlet: Outlet, parcel: Parcel) -> None:
        scale = self._settings.retry_scale
        if time.monotonic() - parcel.since > GIVE_UP_SECONDS * scale:
            self.updates_given_up += parcel.updates
            log.error(
                "gave up %d updates for %s after %d tries", parcel.updates, outlet.url, parcel.tries + 1
            )
            return
        pause = 2 ** min(parcel.tries, 16) * scale * self._rng.uniform(0.8, 1.2)
        parcel.tries += 1
        outlet.resting += 1
        self._timers.later(min(pause, self._settings.retry_max_pause), self._wake, outlet, parcel)

    def _wake(self, outlet: Outlet, parcel: Parcel) -> None:
        outlet.resting -= 1
        outlet.due.append(parcel)
        self._pump(outlet)

    # Verification

    def outlet(self, app: App, url: str, verify_token: str) -> Outlet:
        """The way to a callback; the first use of a callback or of a new token starts its verification."""
        known = self._outlets.get((app.id, url))
        if known is not None and known.verify_token == verify_token:
            return known
        if known is None:
            known = self._outlets[(app.id, url)] = Outlet(app, url, verify_token, Verification("pending"))
        known.verify_token = verify_token
        self.verify_again(known)
        return known

    def verify_again(self, outlet: Outlet) -> None:
        if not self._verify:
            outlet.verification = Verification("verified", "not asked: the sandbox runs without verification")
            return
        outlet.verification = Verification("pending")
        _spawn(self._verify_until_answered(outlet, outlet.verification), self._verifications)

    async def verify_once(self, url: str, verify_token: str) -> str | None:
        """Ask a callback to repeat a challenge; None if it did, else what was wrong."""
        challenge = str(self._rng.randrange(10**9, 10**10))
        joint = "&" if "?" in url else "?"
        query = f"hub.mode=subscribe&hub.challenge={challenge}&hub.verify_token={quote(verify_token)}"
        try:
            answer = await self._client.call(
                "GET", f"{url}{joint}{query}", {"User-Agent": "facebookplatform/1.0"},
                timeout=self._settings.timeout_seconds,
            )  # fmt: skip
        except OSError as problem:
            return f"no answer: {str(problem) or type(problem).__name__}"
        if answer.status != 200:
            hint = " (is its verify token the same?)" if answer.status == 403 else ""
            return f"answered {answer.status} in place of 200{hint}"
        if answer.body != challenge.encode():
            return f"answered 200 without the challenge as its whole body: {answer.body[:80]!r}"
        return None

    async def _verify_until_answered(self, outlet: Outlet, verification: Verification) -> None:
        """The callback may come up after the sandbox, so a refusal is final only after five minutes."""
        deadline = time.monotonic() + VERIFY_FOR_SECONDS
        pause = 0.1
        while True:
            reason = await self.verify_once(outlet.url, outlet.verify_token)
            if outlet.verification is not verification:  # set anew in the meantime
                return
            if reason is None:
                log.info("callback verified: %s", outlet.url)
                outlet.verification = Verification("verified")
                self._pump(outlet)
                return
            if reason != verification.reason:
                log.warning("callback %s not verified yet: %s", outlet.url, reason)
                verification.reason = reason
            if time.monotonic() > deadline:
                log.error("callback %s not verified, its updates wait: %s", outlet.url, reason)
                outlet.verification = Verification("failed", reason)
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 3.0)

    # Control

    @property
    def outlets(self) -> list[Outlet]:
        return list(self._outlets.values())

    @property
    def waiting(self) -> int:
        """Updates and parcels that are not delivered yet, and timers of the sandbox that have not run."""
        # A planned pump and a resting parcel each hold a timer of their own.
        timers = len(self._timers) - sum(outlet.pump_planned + outlet.resting for outlet in self.outlets)
        return timers + sum(outlet.waiting for outlet in self.outlets)

    def resume(self) -> None:
        self.paused = False
        for outlet in self.outlets:
            self._pump(outlet)

    def clear(self) -> None:
        """Forget callbacks, all that waits, and the record of what was delivered; after `close`."""
        self._outlets.clear()
        self.attempts.clear()
        self.updates_published = self.posts_taken = self.posts_refused = self.updates_given_up = 0
        self.paused = False

    async def close(self) -> None:
        """Stop deliveries and verifications. The caller cancels the timers."""
        tasks = [*self._deliveries, *self._verifications]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._client.close()


def _spawn(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    def finished(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("a webhook task broke", exc_info=problem)

    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(finished)
