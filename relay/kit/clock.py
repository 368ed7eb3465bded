"""The only place that reads the process clock.

Rules that several processes must agree on (pacing, leases, retention) use the database's clock in SQL.
"""

from datetime import UTC, datetime


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)
