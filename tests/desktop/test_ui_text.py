"""Words and letters: initials, direction, emoji, UTF-16, times."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtWidgets import QApplication

from desktop.ui import times
from desktop.ui.avatar import colour_index
from desktop.ui.text import (
    Utf16Map,
    big_emoji_count,
    first_grapheme,
    initials,
    is_right_to_left,
    isolate,
    left_to_right,
    utf16_length,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def in_utc_and_english(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        patch.setenv("LC_ALL", "en_GB.UTF-8")
        time.tzset()
        times.forget_language()
        yield
    time.tzset()
    times.forget_language()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Sara Lindqvist", "SL"),
        ("sara", "S"),
        ("Ana María de la Cruz", "AC"),
        ("élodie", "É"),
        ("王小明", "王"),
        ("김민수 Kim", "김"),
        ("أحمد حسن", "أ\u200cح"),
        ("🌻 Blumen Anna", "BA"),
        ("👩‍👩‍👧", "👩‍👩‍👧"),
        ("+46 70 174 06 01", ""),
        ("", ""),
        ("   ", ""),
        ("(Werkstatt)", ""),
    ],
)
def test_initials(qapp: QApplication, name: str, expected: str) -> None:
    assert initials(name) == expected


def test_a_flag_is_one_grapheme(qapp: QApplication) -> None:
    assert first_grapheme("🇸🇪🇩🇪") == "🇸🇪"
    assert first_grapheme("e\u0301a") == "e\u0301"


@given(st.text(max_size=30))
def test_initials_exist_for_every_name(qapp: QApplication, name: str) -> None:
    assert len(initials(name)) <= len(name) + 1


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("👍", 1),
        ("👍🏽 ❤️", 2),
        ("👩‍👩‍👧‍👦🇸🇪👍🏽", 3),
        ("👍👍👍👍", 0),
        ("ok 👍", 0),
        ("1", 0),
        ("1️⃣", 1),
        ("", 0),
        ("©", 1),
    ],
)
def test_only_few_emoji_alone_are_large(text: str, count: int) -> None:
    assert big_emoji_count(text) == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello", False),
        ("مرحبا", True),
        ("שלום abc", True),
        ("12 – hello", False),
        ("+49 مرحبا", True),
        ("123", False),
    ],
)
def test_direction_is_that_of_the_first_strong_character(text: str, expected: bool) -> None:
    assert is_right_to_left(text) is expected


@given(st.text())
def test_positions_translate_to_qt_and_back(text: str) -> None:
    positions = Utf16Map(text)
    assert utf16_length(text) == positions.to_qt(len(text))
    for index in range(len(text) + 1):
        at = positions.to_qt(index)
        assert at == utf16_length(text[:index])
        assert positions.to_python(at) == index


def test_a_position_inside_a_pair_counts_as_before_it() -> None:
    assert Utf16Map("a👍b").to_python(2) == 1


def test_isolates_are_closed() -> None:
    assert isolate("أ") == "\u2068أ\u2069"
    assert left_to_right("+1") == "\u2066+1\u2069"


def test_an_avatar_keeps_its_colour() -> None:
    assert colour_index(UUID(int=19)) == colour_index(UUID(int=19)) == 3


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        (timedelta(minutes=5), "11:55"),
        (timedelta(hours=20), "Yesterday"),
        (timedelta(days=3), "Thu"),
        (timedelta(days=40), "13 Oct"),
        (timedelta(days=700), "22/12/2024"),
        (timedelta(minutes=-5), "12:05"),
    ],
)
def test_times_in_lists(ago: timedelta, expected: str) -> None:
    assert times.list_time(NOW - ago, NOW) == expected


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2026, 11, 22), "Today"),
        (date(2026, 11, 21), "Yesterday"),
        (date(2026, 11, 18), "Wednesday"),
        (date(2026, 3, 12), "12 March"),
        (date(2024, 3, 12), "12 March 2024"),
    ],
)
def test_titles_of_days(day: date, expected: str) -> None:
    assert times.day_title(day, NOW.date()) == expected


@pytest.mark.parametrize(
    ("left", "words", "short"),
    [
        (timedelta(hours=3, minutes=12), "3 h 12 min", "3 h"),
        (timedelta(hours=2), "2 h", "2 h"),
        (timedelta(minutes=12, seconds=59), "12 min", "12 min"),
        (timedelta(seconds=20), "less than a minute", "1 min"),
    ],
)
def test_countdowns(left: timedelta, words: str, short: str) -> None:
    assert times.time_left(left) == words
    assert times.time_left_short(left) == short


def test_ago() -> None:
    assert times.ago(NOW - timedelta(seconds=20), NOW) == "just now"
    assert times.ago(NOW - timedelta(minutes=6), NOW) == "6 minutes ago"
    assert times.ago(NOW + timedelta(hours=1), NOW) == "just now"  # a clock that was set back


@pytest.mark.parametrize(
    ("language", "expected"),
    [("en_US.UTF-8", "1:05 PM"), ("de_DE", "13:05"), ("C", None), ("xx_YY", None)],
)
def test_clocks_are_those_of_the_language(
    monkeypatch: pytest.MonkeyPatch, language: str, expected: str | None
) -> None:
    monkeypatch.setenv("LC_ALL", language)
    times.forget_language()
    written = times.clock(NOW.replace(hour=13, minute=5))
    assert written == expected if expected else "05" in written
    assert times.day_title(date(2024, 3, 12), NOW.date())
