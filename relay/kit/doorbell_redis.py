"""The doorbell over Redis pub/sub. Imported only when a Redis is configured."""

import asyncio
from typing import Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from relay.kit.doorbell import CHANNEL, KEEPALIVE_SECONDS, TIMEOUT_SECONDS, Doorbell

_PUBLISHED: Final = "message"
_SUBSCRIBED: Final = "subscribe"


class RedisDoorbell(Doorbell):
    """PUBLISH on one connection, SUBSCRIBE on another. Nothing is stored in Redis."""

    errors = (OSError, TimeoutError, RedisError)

    def __init__(self, url: str) -> None:
        super().__init__()
        self._redis: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            client_name="relay-doorbell",
            retry=Retry(NoBackoff(), 0),  # `_keep` retries, and then checks what was missed
        )

    async def _publish(self, payload: str) -> None:
        await self._redis.publish(CHANNEL, payload)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as pubsub:
            try:
                await pubsub.subscribe(CHANNEL)
                await self._read(pubsub)
            finally:
                self.connected = False

    async def _read(self, pubsub: redis.asyncio.client.PubSub) -> None:
        silent_since = asyncio.get_running_loop().time()
        asked = False
        while True:
            message = await pubsub.get_message(timeout=TIMEOUT_SECONDS)
            now = asyncio.get_running_loop().time()
            if message is None:
                silence = now - silent_since
                if asked and silence > KEEPALIVE_SECONDS + TIMEOUT_SECONDS:
                    raise ConnectionError("Redis does not answer on the listening connection")
                if not asked and silence >= KEEPALIVE_SECONDS:
                    await pubsub.ping()
                    asked = True
                continue
            silent_since, asked = now, False
            if message["type"] == _SUBSCRIBED:  # also after a reconnect that the library made by itself
                self._check_everything()
            elif message["type"] == _PUBLISHED:
                self._hear(message["data"])

    async def _close(self) -> None:
        await self._redis.aclose()
