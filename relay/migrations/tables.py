"""Every table that migrations make, in one place."""

import re
from collections.abc import Mapping
from typing import Any

import relay.accounts.models
import relay.conversations.models
import relay.inbound.models
import relay.numbers.models
import relay.outbound.models
import relay.sync.models  # noqa: F401 - models register their tables when they are imported
from relay.kit.schema import metadata

__all__ = ["include_name", "metadata"]

# Partitions come and go by the day; the job queue's tables are its library's.
_NOT_OURS = re.compile(r"webhook_raw_\w+|saq_\w+|alembic_version")


def include_name(name: str | None, kind: str, _parents: Mapping[Any, str | None]) -> bool:
    """Whether Alembic compares this object of the database with our models."""
    return not (kind == "table" and name is not None and _NOT_OURS.fullmatch(name))
