"""`relay`, acknowledging webhooks without storing them: what the rest of the server costs. Never for use."""

from collections.abc import Sequence

from relay.cli import main

from relay.inbound.ingest import Ingest
from relay.inbound.queries import RawWebhook


async def _store_nothing(_ingest: Ingest, _webhooks: Sequence[RawWebhook]) -> None:
    return


if __name__ == "__main__":
    Ingest._store = _store_nothing  # type: ignore[method-assign]
    main()
