"""Structured logs: JSON lines for machines or coloured lines for people, to standard error.

What a customer writes, phone numbers and secrets stay out of them: values under telling names are replaced,
and phone numbers and tokens inside other text are masked.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from relay.kit import clock

HIDDEN: Final = "[hidden]"
_SECRET_NAMES: Final = re.compile(
    r"(?i).*(password|secret|token|authorization|cookie|api_key|dsn|database_url|redis_url)(?!_id).*"
)
_PERSONAL_NAMES: Final = frozenset(
    {"body", "text", "content", "payload", "phone", "recipient", "wa_id", "to"}
)
# Our refresh tokens, JWTs, Meta's access tokens, and the password in an address.
_TOKENS: Final = re.compile(r"rdr_[\w-]+|eyJ[\w-]+\.[\w-]+\.[\w-]+|EAA[A-Za-z0-9]{20,}|(?<=:)[^:@/\s]+(?=@)")
_PHONE: Final = re.compile(r"(?<![\w-])\+?\d(?:[\d ()-]{6,16})\d(?![\w-])")


def configure(level: str, form: str) -> None:
    """Set up logging for this process; libraries that use `logging` come out in the same form."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _add_time,
        _drop_colours,
        structlog.processors.StackInfoRenderer(),
    ]
    console = form == "console"
    # The renderer's own choice of traceback shows the values of variables, tokens among them, and may take
    # longer to draw than a request lives.
    plain = structlog.dev.plain_traceback
    render: list[Processor] = (
        [redact, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
        if console
        else [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # These report each request or statement, at a level of their own choice.
    for chatty in ("httpx", "httpcore", "uvicorn.access", "alembic.runtime", "saq"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["time"] = clock.now().isoformat(timespec="milliseconds")
    return event


def _drop_colours(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """uvicorn sends each of its lines twice, once for terminals."""
    event.pop("color_message", None)
    return event


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide what must not be in a log."""
    for name, value in event.items():
        if name in ("event", "time", "level", "logger", "exc_info"):
            if name == "event":
                event[name] = _mask(value)
        else:
            event[name] = _redacted(name, value)
    return event


def _redacted(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAMES.fullmatch(name) or name in _PERSONAL_NAMES:
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: _redacted(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_redacted(name, item) for item in value]
    return _mask(value)


def _mask(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return _PHONE.sub(_masked_phone, _TOKENS.sub(HIDDEN, value))


def _masked_phone(match: re.Match[str]) -> str:
    """Keep the last two digits of what looks like a phone number; dates and short numbers stay."""
    text = match.group()
    digits = sum(character.isdigit() for character in text)
    if not 9 <= digits <= 15 or re.fullmatch(r"\d{4}-\d{2}-\d{2}.*", text):
        return text
    return f"…{text[-2:]}"
