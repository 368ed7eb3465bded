"""The webhook signature: raw bytes, a ring of secrets, and nothing that raises on bad input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.meta import signature

BODY = b'{"object":"whatsapp_business_account","entry":[]}'


def test_known_value() -> None:
    # Computed with `printf '%s' '{"a":1}' | openssl dgst -sha256 -hmac secret`.
    assert (
        signature.sign("secret", b'{"a":1}')
        == "sha256=aa9e2e3575f5d7098b6caccd790888c36d5fdb63342a73bada2d6a51747a8494"
    )


# Without control characters: HMAC pads keys with zero bytes, so "a" and "a\0" are one key.
_SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40)


@given(st.binary(), _SECRETS, _SECRETS)
def test_only_the_signing_secret_verifies(body: bytes, secret: str, other: str) -> None:
    header = signature.sign(secret, body)
    assert signature.verify([secret], body, header)
    assert signature.verify([other, secret], body, header)
    assert signature.verify([other], body, header) == (other == secret)
    assert not signature.verify([secret], body + b" ", header)


@pytest.mark.parametrize(
    "header", [None, "", "sha256=", "sha256=zz", "sha1=abc", "sha256=é", signature.sign("s", BODY).upper()]
)
def test_malformed_headers_are_refused(header: str | None) -> None:
    assert not signature.verify(["s"], BODY, header)


def test_an_empty_secret_never_matches() -> None:
    assert not signature.verify([""], BODY, signature.sign("", BODY))
    assert not signature.verify([], BODY, signature.sign("", BODY))
