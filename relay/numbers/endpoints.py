"""The Meta apps that webhooks come from, remembered for a minute so that an ack needs no query of its own."""

import time
from typing import Final

from relay.kit.db import Database
from relay.kit.secrets import Secrets
from relay.numbers import service
from relay.numbers.service import WebhookEndpoint

KEEP_SECONDS: Final = 60
KEEP_MOST: Final = 10_000


class WebhookEndpoints:
    """Finds endpoints by the key in their address. Keys nobody has are asked for each time."""

    def __init__(self, database: Database, secrets: Secrets) -> None:
        self._database = database
        self._secrets = secrets
        self._kept: dict[str, tuple[float, WebhookEndpoint]] = {}

    async def find(self, endpoint_key: str) -> WebhookEndpoint | None:
        """None for a key nobody has. A changed secret is seen after a minute at most."""
        kept = self._kept.get(endpoint_key)
        now = time.monotonic()
        if kept is not None and now - kept[0] < KEEP_SECONDS:
            return kept[1]
        endpoint = await service.find_endpoint(self._database, self._secrets, endpoint_key)
        if endpoint is None:
            self._kept.pop(endpoint_key, None)
        else:
            if len(self._kept) >= KEEP_MOST:
                self._kept.clear()
            self._kept[endpoint_key] = (now, endpoint)
        return endpoint
