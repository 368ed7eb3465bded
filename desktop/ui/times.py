"""Words for times, in the user's language and time zone (babel). Clocks are passed in, never read here."""

from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final

from babel import Locale, UnknownLocaleError, default_locale
from babel.dates import format_date, format_datetime, format_skeleton, format_time, format_timedelta

_DAYS_NAMED: Final = 7
_FALLBACK: Final = "en_GB"


@lru_cache(maxsize=1)
def locale() -> Locale:
    """The language for dates; where the system names none, English with a 24-hour clock."""
    named = default_locale("LC_TIME") or _FALLBACK
    try:
        return Locale.parse(_FALLBACK if named.endswith("POSIX") else named)
    except (UnknownLocaleError, ValueError):
        return Locale.parse(_FALLBACK)


def clock(moment: datetime) -> str:
    """As '10:42'."""
    local = moment.astimezone()
    return _clock(local.hour, local.minute)


@lru_cache(maxsize=1440)
def _clock(hour: int, minute: int) -> str:
    return format_time(datetime(2000, 1, 1, hour, minute), "short", locale=locale()).replace("\u202f", " ")  # noqa: DTZ001 - a wall clock


def list_time(moment: datetime, now: datetime) -> str:
    """For a list: the clock today, then 'Yesterday', a weekday, a day, a day with its year."""
    local, today = moment.astimezone(), now.astimezone().date()
    day = local.date()
    if day >= today:
        return clock(moment)
    return _past_day(day, today)


@lru_cache(maxsize=2048)
def _past_day(day: date, today: date) -> str:
    if day == today - timedelta(days=1):
        return "Yesterday"
    if (today - day).days < _DAYS_NAMED:
        return format_skeleton("E", day, locale=locale())
    if day.year == today.year:
        return format_skeleton("MMMd", day, locale=locale())
    return format_date(day, "short", locale=locale())


def day_title(day: date, today: date) -> str:
    """For a divider: 'Today', 'Yesterday', a weekday, '12 March', '12 March 2024'."""
    if day == today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    if 0 < (today - day).days < _DAYS_NAMED:
        return format_date(day, "EEEE", locale=locale())
    if day.year == today.year:
        return format_skeleton("MMMMd", day, locale=locale())
    return format_date(day, "long", locale=locale())


def moment_words(moment: datetime) -> str:
    """Day and time in full, for tooltips, copies and screen readers."""
    return format_datetime(moment.astimezone(), "medium", locale=locale())


def ago(moment: datetime, now: datetime) -> str:
    """As '2 minutes ago'."""
    passed = min(moment - now, timedelta(0))
    if passed > timedelta(minutes=-1):
        return "just now"
    return format_timedelta(passed, add_direction=True, locale=locale())


def time_left(left: timedelta) -> str:
    """A countdown, as '3 h 12 min', '12 min', 'less than a minute'."""
    minutes = int(left.total_seconds()) // 60
    if minutes < 1:
        return "less than a minute"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def time_left_short(left: timedelta) -> str:
    """A countdown for a narrow place, as '3 h' or '12 min'."""
    minutes = max(1, int(left.total_seconds()) // 60)
    return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"
