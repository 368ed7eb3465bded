"""The environment: defaults that work, and every problem listed at once."""

import re
from pathlib import Path
from typing import ClassVar

import pytest

from relay.kit.secrets import KeyRing
from relay.settings import Settings, SettingsError

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"
SECRET = "s" * 40


def problems(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environ)
    return caught.value.problems


def test_an_empty_environment_runs_on_the_embedded_server() -> None:
    settings = Settings.from_environment({})
    assert settings.embedded
    assert (settings.host, settings.port, settings.public_url) == ("127.0.0.1", 8080, "http://127.0.0.1:8080")
    assert settings.meta_graph_url == "https://graph.facebook.com"


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = problems(
        DATABASE_URL="mysql://x/y",
        REDIS_URL="http://x",
        PORT="99999",
        LOG_LEVEL="loud",
        JWT_SECRET="short",
        ENCRYPTION_KEY="nonsense",
        META_API_VERSION="26",
        META_GRAPH_URL="graph.facebook.com",
        DATA_DIR=str(EXAMPLE),
    )
    names = [problem.split(":")[0] for problem in found]
    assert names == [
        "DATABASE_URL",
        "PORT",
        "REDIS_URL",
        "JWT_SECRET",
        "ENCRYPTION_KEY",
        "META_API_VERSION",
        "META_GRAPH_URL",
        "DATA_DIR",
        "LOG_LEVEL",
    ]


def test_a_server_of_ones_own_needs_secrets_of_ones_own() -> None:
    found = problems(DATABASE_URL="postgresql://relay@db/relaydesk")
    assert [problem.split(" ")[0] for problem in found] == ["JWT_SECRET", "ENCRYPTION_KEY"]
    settings = Settings.from_environment(
        {
            "DATABASE_URL": "postgresql://relay@db/relaydesk",
            "JWT_SECRET": f"{SECRET}, {SECRET[::-1]}old",
            "ENCRYPTION_KEY": KeyRing.generate(),
        }
    )
    assert settings.jwt_secrets == (SECRET, f"{SECRET}old")
    assert not settings.embedded


def test_a_database_must_be_named_and_pooled_only_with_both_addresses() -> None:
    assert "names no database" in problems(DATABASE_URL="postgresql://host")[0]
    assert "set both or neither" in problems(DATABASE_DIRECT_URL="postgresql://host/x")[0]


def test_secrets_stay_out_of_the_repr() -> None:
    settings = Settings.from_environment({"JWT_SECRET": SECRET, "META_APP_SECRET": "a,b"})
    assert SECRET not in repr(settings)
    assert settings.meta_app_secrets == ("a", "b")


def test_the_example_names_every_setting_and_its_defaults() -> None:
    named = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))

    class Asked(dict[str, str]):
        asked: ClassVar[set[str]] = set()

        def get(self, key: str, default: str = "") -> str:  # type: ignore[override]
            self.asked.add(key)
            return default

    Settings.from_environment(Asked())
    read_elsewhere = {"FORWARDED_ALLOW_IPS"}  # by uvicorn
    assert named.keys() - read_elsewhere == Asked.asked - {"XDG_DATA_HOME"}
    assert Settings.from_environment(named) == Settings.from_environment({})
