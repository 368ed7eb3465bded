"""`relay`, acknowledging webhooks without storing them: what the rest of the server costs. Never for use."""

from collections.abc import Sequence
from unittest.mock import patch

from relay.cli import main
from relay.inbound.raw_store import RawStore, RawWebhook


async def _store_nothing(_store: RawStore, _webhooks: Sequence[RawWebhook]) -> None:
    return


if __name__ == "__main__":
    with patch.object(RawStore, "store", _store_nothing):
        main()
