"""The form of a refresh token: `rdr_<base64 of tenant, session, 32 random bytes, tag>_<checksum>`.

The prefix and the checksum let scanners recognise a leaked token without our keys. The tag proves that a
token was ours even when its hash is no longer stored: only then may its reuse end the device session.
"""

import base64
import binascii
import hmac
import os
import zlib
from typing import Final, NamedTuple
from uuid import UUID

from relay.kit.secrets import Secrets

PREFIX: Final = "rdr_"
_RANDOM_BYTES: Final = 32
_TAG_BYTES: Final = 16
_BODY_BYTES: Final = 16 + 16 + _RANDOM_BYTES


class ParsedToken(NamedTuple):
    """Whose token it is; that it is genuine was checked, that it is current was not."""

    tenant_id: UUID
    session_id: UUID


def new_token(secrets: Secrets, tenant_id: UUID, session_id: UUID) -> str:
    body = tenant_id.bytes + session_id.bytes + os.urandom(_RANDOM_BYTES)
    tag = secrets.mac("refresh-token-tag", tenant_id, body)[:_TAG_BYTES]
    text = base64.urlsafe_b64encode(body + tag).decode().rstrip("=")
    return f"{PREFIX}{text}_{_checksum(text)}"


def parse(secrets: Secrets, token: str) -> ParsedToken | None:
    """None for anything that we did not make."""
    text, _, checksum = token.removeprefix(PREFIX).rpartition("_")
    if not token.startswith(PREFIX) or checksum != _checksum(text):
        return None
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    if len(data) != _BODY_BYTES + _TAG_BYTES:
        return None
    body, tag = data[:_BODY_BYTES], data[_BODY_BYTES:]
    tenant_id, session_id = UUID(bytes=body[:16]), UUID(bytes=body[16:32])
    tags = secrets.macs("refresh-token-tag", tenant_id, body)
    if not any(hmac.compare_digest(tag, known[:_TAG_BYTES]) for known in tags):
        return None
    return ParsedToken(tenant_id, session_id)


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
