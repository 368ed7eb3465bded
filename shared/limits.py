"""Limits that both sides check, from Meta's Cloud API and from our own API."""

from typing import Final

TEXT_MAX_CHARS: Final = 4096
"""Longest body of an outbound text message (Meta: 1-4096 characters)."""

WEBHOOK_MAX_BYTES: Final = 4 * 1024 * 1024
"""Largest webhook body the relay reads. Meta sends at most 3 MB; the rest is head-room."""

PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 200
"""Rows per page of the conversation and message lists."""

CHANGES_MAX: Final = 1_000
"""Feed positions covered by one answer of `GET /api/v1/sync/changes`."""

SNAPSHOT_PAGE_MAX: Final = 1_000
"""Conversations in one page of `GET /api/v1/sync/snapshot`."""
