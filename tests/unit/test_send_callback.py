"""The callback text: names its attempt to us, and to nobody else."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.kit.secrets import KeyRing, Secrets
from relay.outbound import callback

OLD, NEW = KeyRing.generate(), KeyRing.generate()
SECRETS = Secrets(KeyRing.parse(NEW))


@given(st.uuids(), st.uuids(), st.uuids())
def test_it_names_the_attempt_within_its_tenant(tenant: UUID, other: UUID, attempt: UUID) -> None:
    text = callback.encode(SECRETS, tenant, attempt)
    assert len(text) <= 512
    assert callback.decode(SECRETS, tenant, text) == attempt
    if other != tenant:
        assert callback.decode(SECRETS, other, text) is None


@given(st.uuids(), st.uuids(), st.text())
def test_nothing_else_is_taken_for_ours(tenant: UUID, attempt: UUID, text: str) -> None:
    ours = callback.encode(SECRETS, tenant, attempt)
    assert callback.decode(SECRETS, tenant, text) is None
    assert callback.decode(SECRETS, tenant, ours + text) in ({attempt} if not text else {None})


@pytest.mark.parametrize(
    "change", [str.upper, lambda t: t[:-1] + ("0" if t[-1] != "0" else "1"), lambda t: t + "\n"]
)
def test_an_altered_text_is_refused(change: object) -> None:
    tenant, attempt = UUID(int=7), UUID("019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b")
    assert callback.decode(SECRETS, tenant, change(callback.encode(SECRETS, tenant, attempt))) is None  # type: ignore[operator]  # one of the above


def test_what_left_before_a_key_rotation_still_counts() -> None:
    tenant, attempt = UUID(int=7), UUID(int=8)
    before = callback.encode(Secrets(KeyRing.parse(OLD)), tenant, attempt)
    assert callback.decode(Secrets(KeyRing.parse(f"{NEW},{OLD}")), tenant, before) == attempt
    assert callback.decode(SECRETS, tenant, before) is None
