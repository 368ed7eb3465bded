"""Logs: one JSON document per line, without secrets, customers' words or their numbers."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from relay.kit import log as logs
from relay.kit.log import HIDDEN, redact


def redacted(**event: object) -> dict[str, object]:
    return dict(redact(None, "info", {"event": "x", **event}))


@pytest.mark.parametrize(
    "name",
    ["password", "access_token", "app_secret", "Authorization", "DATABASE_URL", "body", "text", "recipient"],
)
def test_values_under_telling_names_are_hidden(name: str) -> None:
    assert redacted(**{name: "value"})[name] == HIDDEN
    assert redacted(inner={name: "value"})["inner"] == {name: HIDDEN}
    assert redacted(inner=[{name: "value"}])["inner"] == [{name: HIDDEN}]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("call +49 30 901820 now", "call …20 now"),
        ("wa_id 4915112345678", "wa_id …78"),
        ("token eyJhbGciOi.eyJzdWIi.c2ln here", f"token {HIDDEN} here"),
        ("postgresql://relay:hunter2@db/x", f"postgresql://relay:{HIDDEN}@db/x"),
        ("rdr_abc-DEF_12345678", HIDDEN),
        ("EAAGm0PX4ZCpsBAKZCyZBxyzabcdef", HIDDEN),
        ("2026-11-22T21:35:57.749", "2026-11-22T21:35:57.749"),
        ("id 01a20526-3321-7408-9178-82a3b0ab90de", "id 01a20526-3321-7408-9178-82a3b0ab90de"),
        ("took 1234 ms", "took 1234 ms"),
    ],
)
def test_numbers_and_tokens_inside_text_are_masked(text: str, shown: str) -> None:
    assert redacted(note=text)["note"] == shown
    assert redact(None, "info", {"event": text})["event"] == shown


def test_plain_values_stay() -> None:
    values = {"ms": 12.5, "rows": 4915112345678, "ok": True, "none": None}
    assert redacted(**values) == {"event": "x", **values}


@pytest.fixture
def restored() -> Iterator[None]:
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**before)


@pytest.mark.usefixtures("restored")
def test_ours_and_the_libraries_lines_look_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.contextvars.bind_contextvars(request_id="r1")
    try:
        structlog.get_logger("relay.x").info("something.happened", phone="+4930901820", rows=2)
        logging.getLogger("library").warning("odd: %s", "+49 30 901820")
        structlog.get_logger("relay.x").debug("not shown")
        try:
            int("rdr_abcdef")
        except ValueError:
            structlog.get_logger("relay.x").exception("failed")
    finally:
        structlog.contextvars.clear_contextvars()
    ours, theirs, failure = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert ours.pop("time")
    assert ours == {
        "event": "something.happened",
        "level": "info",
        "logger": "relay.x",
        "phone": HIDDEN,
        "request_id": "r1",
        "rows": 2,
    }
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("odd: …20", "warning", "library")
    assert "ValueError: invalid literal for int() with base 10: '[hidden]'" in failure["exception"]
