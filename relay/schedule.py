"""What runs by the clock. Times are UTC; each job may run twice or late without harm."""

from collections.abc import Sequence
from functools import partial

from relay.accounts.upkeep import clear_ended_sessions
from relay.inbound import partitions
from relay.kit.db import Database
from relay.kit.jobs import Cron
from relay.sync.service import clear_old_entries


def crons(database: Database) -> Sequence[Cron]:
    """The scheduled jobs of an installation."""
    return (
        # Days are made three ahead, so that this may fail for two days before anybody notices.
        Cron(
            "webhook-partitions",
            "7 */6 * * *",
            partial(partitions.maintain, database),
            queue="webhook",
            timeout=900,
        ),
        Cron("feed-compaction", "27 * * * *", partial(clear_old_entries, database), timeout=900),
        Cron("ended-sessions", "47 3 * * *", partial(clear_ended_sessions, database)),
    )
