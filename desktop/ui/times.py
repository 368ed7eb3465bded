"""Words for times, in the user's language and time zone (babel). Clocks are passed in, never read here."""

import os
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from PySide6.QtCore import QLocale, QTime

if TYPE_CHECKING:
    from babel import Locale

_DAYS_NAMED: Final = 7
_FALLBACK: Final = "en_GB"


@lru_cache(maxsize=1)
def language() -> str:
    """The language of dates, as 'de_DE'; where the system names none, English with a 24-hour clock."""
    for variable in ("LC_ALL", "LC_TIME", "LANG"):
        named = os.environ.get(variable, "").split(".")[0]
        if named and named not in {"C", "POSIX"}:
            return named
    system = QLocale.system().name()
    return _FALLBACK if system == "C" else system


@lru_cache(maxsize=1)
def _locale() -> "Locale":
    # Babel is imported when a date is first written, not while the program starts: lists of today's messages
    # need only clocks.
    from babel import Locale, UnknownLocaleError  # noqa: PLC0415

    try:
        return Locale.parse(language())
    except (UnknownLocaleError, ValueError):
        return Locale.parse(_FALLBACK)


def forget_language() -> None:
    """The system's language may have changed."""
    for cached in (language, _locale, _clock, _past_day):
        cached.cache_clear()


def clock(moment: datetime) -> str:
    """As '10:42'."""
    local = moment.astimezone()
    return _clock(local.hour, local.minute)


@lru_cache(maxsize=1440)
def _clock(hour: int, minute: int) -> str:
    written = QLocale(language()).toString(QTime(hour, minute), QLocale.FormatType.ShortFormat)
    return written.replace("\u202f", " ")


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
    from babel.dates import format_date, format_skeleton  # noqa: PLC0415 - see _locale

    if (today - day).days < _DAYS_NAMED:
        return format_skeleton("E", day, locale=_locale())
    if day.year == today.year:
        return format_skeleton("MMMd", day, locale=_locale())
    return format_date(day, "short", locale=_locale())


def day_title(day: date, today: date) -> str:
    """For a divider: 'Today', 'Yesterday', a weekday, '12 March', '12 March 2024'."""
    if day == today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    from babel.dates import format_date, format_skeleton  # noqa: PLC0415 - see _locale

    if 0 < (today - day).days < _DAYS_NAMED:
        return format_date(day, "EEEE", locale=_locale())
    if day.year == today.year:
        return format_skeleton("MMMMd", day, locale=_locale())
    return format_date(day, "long", locale=_locale())


def moment_words(moment: datetime) -> str:
    """Day and time in full, for tooltips, copies and screen readers."""
    from babel.dates import format_datetime  # noqa: PLC0415 - see _locale

    return format_datetime(moment.astimezone(), "medium", locale=_locale())


def ago(moment: datetime, now: datetime) -> str:
    """As '2 minutes ago'."""
    passed = min(moment - now, timedelta(0))
    if passed > timedelta(minutes=-1):
        return "just now"
    from babel.dates import format_timedelta  # noqa: PLC0415 - see _locale

    return format_timedelta(passed, add_direction=True, locale=_locale())


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
