"""Sealed values open in their own place only, and survive a key's rotation."""

import base64
from uuid import UUID

import pytest

from relay.kit.ids import new_id
from relay.kit.secrets import KeyRing, SealError, Secrets

PLACE = {"table": "waba", "column": "access_token_sealed"}


def secrets_of(*keys: str) -> Secrets:
    return Secrets(KeyRing.parse(",".join(keys)))


def test_what_was_sealed_is_revealed_and_never_looks_the_same_twice() -> None:
    secrets, tenant, row = secrets_of(KeyRing.generate()), new_id(), new_id()
    first = secrets.seal("token ✓", tenant_id=tenant, row_id=row, **PLACE)
    second = secrets.seal("token ✓".encode(), tenant_id=tenant, row_id=row, **PLACE)
    assert first != second
    assert first.startswith("v1.")
    for sealed in (first, second):
        assert secrets.reveal(sealed, tenant_id=tenant, row_id=row, **PLACE).decode() == "token ✓"


@pytest.mark.parametrize("other", ["table", "column", "tenant_id", "row_id"])
def test_a_ciphertext_does_not_open_elsewhere(other: str) -> None:
    secrets = secrets_of(KeyRing.generate())
    place: dict[str, str | UUID] = {**PLACE, "tenant_id": new_id(), "row_id": new_id()}
    sealed = secrets.seal("token", **place)  # type: ignore[arg-type]
    place[other] = new_id() if other.endswith("_id") else "elsewhere"
    with pytest.raises(SealError):
        secrets.reveal(sealed, **place)  # type: ignore[arg-type]


def test_every_changed_character_is_noticed() -> None:
    secrets, tenant, row = secrets_of(KeyRing.generate()), new_id(), new_id()
    sealed = secrets.seal("t", tenant_id=tenant, row_id=row, **PLACE)
    for at, character in enumerate(sealed):
        changed = sealed[:at] + ("B" if character == "A" else "A") + sealed[at + 1 :]
        if _same_bytes(changed, sealed):
            continue  # the last character of a base64 part may carry bits that do not count
        with pytest.raises(SealError):
            secrets.reveal(changed, tenant_id=tenant, row_id=row, **PLACE)
    for broken in ("", "v1", sealed + ".x", sealed.replace("v1.", "v2."), sealed[: len(sealed) // 2]):
        with pytest.raises(SealError):
            secrets.reveal(broken, tenant_id=tenant, row_id=row, **PLACE)


def _same_bytes(left: str, right: str) -> bool:
    def decoded(sealed: str) -> list[bytes]:
        version, key, *parts = sealed.split(".")
        padded = (part + "=" * (-len(part) % 4) for part in parts)
        return [version.encode(), key.encode(), *(base64.urlsafe_b64decode(part) for part in padded)]

    try:
        return decoded(left) == decoded(right)
    except ValueError:
        return False


def test_an_old_key_opens_and_the_new_one_seals() -> None:
    old, new, tenant, row = KeyRing.generate(), KeyRing.generate(), new_id(), new_id()
    sealed = secrets_of(old).seal("token", tenant_id=tenant, row_id=row, **PLACE)
    both = secrets_of(new, old)
    assert both.reveal(sealed, tenant_id=tenant, row_id=row, **PLACE) == b"token"
    with pytest.raises(SealError, match="ENCRYPTION_KEY no longer holds"):
        secrets_of(new).reveal(sealed, tenant_id=tenant, row_id=row, **PLACE)
    again = both.seal("token", tenant_id=tenant, row_id=row, **PLACE)
    assert secrets_of(new).reveal(again, tenant_id=tenant, row_id=row, **PLACE) == b"token"


def test_hashes_differ_by_purpose_tenant_and_key() -> None:
    old, new, tenant = KeyRing.generate(), KeyRing.generate(), new_id()
    both = secrets_of(new, old)
    found = {
        both.mac("refresh", tenant, b"x"),
        both.mac("refresh", None, b"x"),
        both.mac("other", tenant, b"x"),
        both.mac("refresh", new_id(), b"x"),
        both.mac("refresh", tenant, b"y"),
        secrets_of(old).mac("refresh", tenant, b"x"),
    }
    assert len(found) == 6
    assert list(both.macs("refresh", tenant, b"x")) == [
        both.mac("refresh", tenant, b"x"),
        secrets_of(old).mac("refresh", tenant, b"x"),
    ]


@pytest.mark.parametrize("text", ["", "short", "c2hvcnQ=", "ä" * 44, "x" * 43])
def test_a_ring_that_is_none_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="a key"):
        KeyRing.parse(text)


def test_keys_stay_out_of_reprs() -> None:
    key = KeyRing.generate()
    ring = KeyRing.parse(key)
    assert key not in repr(ring)
    assert repr(ring.primary.material) not in repr(ring)
