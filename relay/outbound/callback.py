"""The text Meta echoes in every status of a send (`biz_opaque_callback_data`): which attempt it was.

    r1.<attempt id, 32 hex>.<8 hex of a keyed hash>

Other apps of the same WhatsApp Business account may set this field too; the hash tells ours from theirs.
"""

import hmac
import re
from typing import Final
from uuid import UUID

from relay.kit.secrets import Secrets

_PURPOSE: Final = "send attempt"
_FORM: Final = re.compile(r"r1\.([0-9a-f]{32})\.([0-9a-f]{8})", re.ASCII)
_HASH_BYTES: Final = 4


def encode(secrets: Secrets, tenant_id: UUID, attempt_id: UUID) -> str:
    """The text to send along with an attempt."""
    proof = secrets.mac(_PURPOSE, tenant_id, attempt_id.bytes)[:_HASH_BYTES]
    return f"r1.{attempt_id.hex}.{proof.hex()}"


def decode(secrets: Secrets, tenant_id: UUID, text: str) -> UUID | None:
    """The attempt that this text names, None if it is not one of this tenant's. Survives key rotation."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    attempt_id, proof = UUID(hex=match[1]), bytes.fromhex(match[2])
    expected = secrets.macs(_PURPOSE, tenant_id, attempt_id.bytes)
    return attempt_id if any(hmac.compare_digest(mac[:_HASH_BYTES], proof) for mac in expected) else None
