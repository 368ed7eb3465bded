"""Phone numbers as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.phones import display


@pytest.mark.parametrize(
    ("wa_id", "shown"),
    [
        ("4930901820", "+49 30 901820"),
        ("+4930901820", "+49 30 901820"),
        ("15550102030", "+1 555-010-2030"),
        ("5511987654321", "+55 11 98765-4321"),
        ("12", "+12"),
        ("999999999999999999", "+999999999999999999"),
    ],
)
def test_numbers_are_written_internationally(wa_id: str, shown: str) -> None:
    assert display(wa_id) == shown


@given(st.text(alphabet="0123456789", max_size=20))
def test_no_digit_is_lost_or_added(digits: str) -> None:
    assert "".join(char for char in display(digits) if char.isdigit()) == digits.lstrip("+")
