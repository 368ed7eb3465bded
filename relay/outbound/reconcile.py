"""The reconciler: finds out about attempts whose sender is gone or whose answer was lost."""

import asyncio
import contextlib
from typing import Final

import structlog
from prometheus_client import Counter

from relay.kit.db import Database
from relay.outbound import attempt_queries, service
from relay.outbound.decisions import DEFAULT_TIMES, SendTimes, Verdict

log = structlog.get_logger(__name__)

BATCH: Final = 200

_resent = Counter(
    "relay_send_resent_total", "Messages sent once more after nothing proved their first attempt."
)
_unconfirmed = Counter(
    "relay_send_unconfirmed_total", "Messages left to the agent: sent or not, nobody knows."
)


class Reconciler:
    """Looks at overdue attempts every few seconds until told to stop. Several may run at once."""

    def __init__(self, *, database: Database, times: SendTimes = DEFAULT_TIMES) -> None:
        self._database = database
        self._times = times

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            more = await self.look() == BATCH
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._times.reconcile_every):
                        await stop.wait()

    async def look(self) -> int:
        """Deal with every attempt that is overdue now, each in its own transaction; returns how many."""
        async with self._database.system() as work:
            entries = await attempt_queries.overdue(work, BATCH)
        for entry in entries:
            try:
                async with self._database.system_for(entry.tenant_id) as tenant_work:
                    verdict = await service.look_into(tenant_work, entry, self._times)
            except Exception:  # it stays overdue; the others must not wait for it
                log.exception("overdue attempt not dealt with", attempt_id=entry.attempt_id)
                continue
            if verdict is Verdict.RESEND:
                _resent.inc()
            elif verdict is Verdict.GIVE_UP:
                _unconfirmed.inc()
            log.info(
                "overdue attempt",
                attempt_id=entry.attempt_id,
                tenant_id=entry.tenant_id,
                was=str(entry.state),
                begun=entry.started,
                verdict=verdict and verdict.name.lower(),
            )
        return len(entries)
