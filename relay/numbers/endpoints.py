"""The Meta apps that webhooks come from, remembered for a minute so that an ack needs no query of its own."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from relay.kit.db import Database
from relay.kit.secrets import Secrets
from relay.numbers import service
from relay.numbers.service import WebhookEndpoint

KEEP_SECONDS: Final = 60
KEEP_MOST: Final = 10_000


class WebhookEndpoints:
    """Finds endpoints by the key in their address, or by the account. Unknown ones are always asked for."""

    def __init__(self, database: Database, secrets: Secrets) -> None:
        self._database = database
        self._secrets = secrets
        self._kept: dict[tuple[str, str], tuple[float, WebhookEndpoint]] = {}

    async def find(self, endpoint_key: str) -> WebhookEndpoint | None:
        """None for a key nobody has. A changed secret is seen after a minute at most."""
        return await self._remembered("key", endpoint_key, self._by_key)

    async def find_waba(self, waba_id: str) -> WebhookEndpoint | None:
        """None for an account nobody has. A changed secret is seen after a minute at most."""
        return await self._remembered("waba", waba_id, self._by_waba)

    async def _by_key(self, endpoint_key: str) -> WebhookEndpoint | None:
        return await service.find_endpoint(self._database, self._secrets, endpoint_key)

    async def _by_waba(self, waba_id: str) -> WebhookEndpoint | None:
        async with self._database.system() as work:
            return await service.find_waba(work, self._secrets, waba_id)

    async def _remembered(
        self, kind: str, name: str, ask: Callable[[str], Awaitable[WebhookEndpoint | None]]
    ) -> WebhookEndpoint | None:
        kept = self._kept.get((kind, name))
        now = time.monotonic()
        if kept is not None and now - kept[0] < KEEP_SECONDS:
            return kept[1]
        endpoint = await ask(name)
        if endpoint is None:
            self._kept.pop((kind, name), None)
        else:
            if len(self._kept) >= KEEP_MOST:
                self._kept.clear()
            self._kept[kind, name] = (now, endpoint)
        return endpoint
