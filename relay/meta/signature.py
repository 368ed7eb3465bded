"""The signature of Meta's webhooks: HMAC-SHA256 of the raw body, keyed by the app's secret."""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

HEADER: Final = "X-Hub-Signature-256"
_SCHEME: Final = "sha256="


def sign(secret: str, body: bytes) -> str:
    """The header's value for a body."""
    return _SCHEME + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verify(secrets: Iterable[str], body: bytes, header: str | None) -> bool:
    """Whether one of the app's secrets (the current one, or the previous while it rotates) signed `body`.

    `body` must be the bytes as received: Meta escapes JSON in its own way, so decoding and encoding again
    gives another text. An empty secret never matches.
    """
    if header is None or not header.startswith(_SCHEME):
        return False
    # Compared as bytes: comparing strings would raise on a header that is not ASCII.
    received = header.encode()
    matches = [hmac.compare_digest(sign(secret, body).encode(), received) for secret in secrets if secret]
    return any(matches)
