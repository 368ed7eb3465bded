"""Secrets at rest: envelope encryption for what must be read again, keyed hashes for what is only compared.

A sealed value is `v1.<key id>.<wrapped data key>.<nonce>.<ciphertext>`: AES-256-GCM with a fresh data key per
value, which is wrapped by a key of the ring. Table, column, tenant and row are authenticated with it, so a
ciphertext copied into another row does not open.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_VERSION: Final = "v1"


class SealError(Exception):
    """A sealed value cannot be opened: wrong key ring, wrong place, or damaged."""


@dataclass(frozen=True)
class Key:
    """One key of the ring. Its id is derived from it, so that no two machines disagree about names."""

    material: bytes = field(repr=False)

    @property
    def id(self) -> str:
        return hashlib.sha256(b"relaydesk key id" + self.material).hexdigest()[:8]


@dataclass(frozen=True)
class KeyRing:
    """The keys in force: the first seals, all of them open."""

    keys: tuple[Key, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """From base64 keys of 32 bytes, separated by commas, newest first. Raises ValueError in words."""
        keys = []
        for part in text.split(","):
            try:
                material = base64.b64decode(part.strip(), altchars=b"-_", validate=True)
            except ValueError:
                raise ValueError("a key is not base64") from None
            if len(material) != KEY_BYTES:
                raise ValueError(f"a key has {len(material)} bytes instead of {KEY_BYTES}")
            keys.append(Key(material))
        return cls(tuple(keys))

    @staticmethod
    def generate() -> str:
        """A fresh key in the form `parse` reads."""
        return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()

    @property
    def primary(self) -> Key:
        return self.keys[0]


class Secrets:
    """Seals, opens and hashes with a key ring."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._keys = {key.id: key for key in ring.keys}
        self._mac_keys: dict[tuple[str, str, UUID | None], bytes] = {}

    def seal(self, value: str | bytes, *, table: str, column: str, tenant_id: UUID, row_id: UUID) -> str:
        """Encrypt a value for exactly this place."""
        place = _place(table, column, tenant_id, row_id)
        plain = value.encode() if isinstance(value, str) else value
        kek = self._ring.primary
        dek = os.urandom(KEY_BYTES)
        wrap_nonce, nonce = os.urandom(NONCE_BYTES), os.urandom(NONCE_BYTES)
        wrapped = wrap_nonce + AESGCM(kek.material).encrypt(wrap_nonce, dek, place)
        ciphertext = AESGCM(dek).encrypt(nonce, plain, place)
        return ".".join((_VERSION, kek.id, _encode(wrapped), _encode(nonce), _encode(ciphertext)))

    def reveal(self, sealed: str, *, table: str, column: str, tenant_id: UUID, row_id: UUID) -> bytes:
        """Open what `seal` made for this place. Raises SealError."""
        place = _place(table, column, tenant_id, row_id)
        parts = sealed.split(".")
        if len(parts) != 5 or parts[0] != _VERSION:
            raise SealError(f"{table}.{column} of {row_id} is not a sealed value of version {_VERSION}")
        kek = self._keys.get(parts[1])
        if kek is None:
            raise SealError(
                f"{table}.{column} of {row_id} was sealed with key {parts[1]}, which ENCRYPTION_KEY no longer"
                " holds; add the old key behind the new one"
            )
        try:
            wrapped, nonce, ciphertext = (_decode(part) for part in parts[2:])
            dek = AESGCM(kek.material).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], place)
            return AESGCM(dek).decrypt(nonce, ciphertext, place)
        except (InvalidTag, ValueError):
            raise SealError(f"{table}.{column} of {row_id} is damaged or belongs to another row") from None

    def mac(self, purpose: str, tenant_id: UUID | None, data: bytes) -> bytes:
        """A 32-byte keyed hash under the newest key; each purpose and tenant has a key of its own."""
        return self._mac(self._ring.primary, purpose, tenant_id, data)

    def macs(self, purpose: str, tenant_id: UUID | None, data: bytes) -> Sequence[bytes]:
        """The hash under each key of the ring, newest first: what was stored before a rotation counts too."""
        return [self._mac(key, purpose, tenant_id, data) for key in self._ring.keys]

    def _mac(self, key: Key, purpose: str, tenant_id: UUID | None, data: bytes) -> bytes:
        name = (key.id, purpose, tenant_id)
        derived = self._mac_keys.get(name)
        if derived is None:
            info = msgspec.json.encode(["relaydesk mac", purpose, tenant_id])
            derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key.material)
            if len(self._mac_keys) >= 10_000:
                self._mac_keys.clear()
            self._mac_keys[name] = derived
        return hmac.digest(derived, data, "sha256")


def _place(table: str, column: str, tenant_id: UUID, row_id: UUID) -> bytes:
    return msgspec.json.encode(
        {"table": table, "column": column, "tenant": tenant_id, "id": row_id}, order="sorted"
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
