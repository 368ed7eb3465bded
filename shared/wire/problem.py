"""Errors on HTTP: RFC 9457 problem+json with a stable `code`."""

from enum import StrEnum
from typing import Any

import msgspec

MEDIA_TYPE = "application/problem+json"


class Code(StrEnum):
    """What went wrong, for programs. Codes are never renamed or reused."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CURSOR = "invalid_cursor"
    INVALID_CREDENTIALS = "invalid_credentials"
    UNAUTHENTICATED = "unauthenticated"
    SESSION_REVOKED = "session_revoked"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    CLIENT_ID_REUSED = "client_id_reused"
    WINDOW_CLOSED = "window_closed"
    RESYNC_REQUIRED = "resync_required"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    BAD_SIGNATURE = "bad_signature"
    NOT_JSON = "not_json"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing wrong with the request; `pointer` is a JSON pointer into the body or a parameter's name."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an error. `detail` is for people; `instance` is the request's id, to quote in a report."""

    title: str
    status: int
    code: Code
    detail: str = ""
    type: str = "about:blank"
    instance: str = ""
    errors: list[FieldError] = []
    extra: dict[str, Any] = {}
