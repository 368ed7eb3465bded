"""The command `relay`, as an operator or a script runs it."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from click.testing import CliRunner, Result

from relay.cli import COMMANDS, main
from relay.settings import Settings
from tests.conftest import ENCRYPTION_KEY, JWT_SECRET, TestDatabase

Relay = Callable[..., Result]


@pytest.fixture
def relay(relay_database: TestDatabase, tmp_path: Path) -> Iterator[Relay]:
    """Runs the command on this worker's database; `env` is added to (or, with None, taken from) its own."""

    def run(*arguments: str, **env: str | None) -> Result:
        environment = {
            "DATABASE_URL": relay_database.dsn,
            "JWT_SECRET": JWT_SECRET,
            "ENCRYPTION_KEY": ENCRYPTION_KEY,
            "DATA_DIR": str(tmp_path),
            "PUBLIC_URL": "https://relay.example",
            **env,
        }
        return CliRunner().invoke(main, arguments, env=environment)

    logging_before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers, root.level
    yield run
    root.handlers, root.level = handlers, level
    structlog.configure(**logging_before)


def document(done: Result) -> Any:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


async def test_a_tenant_a_user_and_a_number(relay: Relay, client: httpx.AsyncClient) -> None:
    async def run(*arguments: str) -> Any:
        return document(await asyncio.to_thread(relay, *arguments, "--json"))

    made = await run("tenant", "create", "--name", "Acme", "--admin-email", "Ana@Acme.example")
    assert made.keys() == {"tenant_id", "user_id", "admin_email", "admin_password"}
    assert made["admin_email"] == "ana@acme.example"
    number = ("--tenant", "Acme", "--waba-id", "101", "--phone-number-id", "202")
    added = await run("number", "add", *number, "--access-token", "EAAtoken", "--app-secret", "shh")
    assert added["webhook_url"] == f"https://relay.example{added['webhook_path']}"
    assert added["webhook_path"].startswith("/webhooks/meta/")
    assert (added["created"], added["tenant_id"]) == (True, made["tenant_id"])
    colleague = ("--email", "bo@acme.example", "--password", "a long password")
    assert "password" not in await run("user", "create", "--tenant", made["tenant_id"], *colleague)

    passwords = {"ana@acme.example": made["admin_password"], "bo@acme.example": "a long password"}
    for email, password in passwords.items():
        answer = await client.post("/api/v1/auth/login", json={"email": email, "password": password})
        assert answer.status_code == 200
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        me = (await client.get("/api/v1/me", headers=headers)).json()
        assert [number["phone_number_id"] for number in me["numbers"]] == ["202"]

    # Again: the same number with new credentials, under the same address.
    again = await run("number", "add", *number, "--access-token", "EAAnew")
    assert again == {**added, "created": False}
    (tenant,) = await run("tenant", "list")
    assert (tenant["name"], tenant["users"], tenant["numbers"]) == ("Acme", 2, 1)
    (listed,) = await run("number", "list", "--tenant", "Acme")
    assert listed["number_id"] == added["number_id"]


def test_what_is_taken_is_refused_in_words(relay: Relay) -> None:
    create = ("tenant", "create", "--admin-password", "a long password")
    assert relay(*create, "--name", "Acme", "--admin-email", "a@acme.example").exit_code == 0
    email = relay(*create, "--name", "Other", "--admin-email", "A@acme.example", "--json")
    assert (email.exit_code, email.stdout) == (1, "")
    assert email.stderr.strip() == "a@acme.example already signs in to “Acme”. Use another e-mail address."
    name = relay(*create, "--name", " Acme ", "--admin-email", "b@acme.example")
    assert name.exit_code == 1
    assert "There is a tenant named “Acme” already" in name.stderr
    short = relay(
        "tenant", "create", "--name", "X", "--admin-email", "x@x.example", "--admin-password", "short"
    )
    assert short.exit_code == 1
    assert "between 10 and 256 characters" in short.stderr
    odd = relay(*create, "--name", "X", "--admin-email", "nonsense")
    assert (odd.exit_code, odd.stderr.strip()) == (1, "“nonsense” is not an e-mail address.")
    number = ("number", "add", "--waba-id", "1", "--phone-number-id", "2", "--access-token", "x")
    assert relay(*number, "--tenant", "Acme").exit_code == 0
    nobody = relay(*number, "--tenant", "Nobody")
    assert nobody.exit_code == 1
    assert "There is no tenant “Nobody”" in nobody.stderr
    assert relay(*create, "--name", "Rival", "--admin-email", "r@rival.example").exit_code == 0
    stolen = relay(*number, "--tenant", "Rival")
    assert (stolen.exit_code, stolen.stderr.strip()) == (
        1,
        "The WhatsApp Business account 1 belongs to another tenant.",
    )


def test_settings_and_usage_have_an_exit_code_of_their_own(relay: Relay) -> None:
    settings = relay("tenant", "list", PORT="x", JWT_SECRET=None, LOG_LEVEL="loud")
    assert settings.exit_code == 2
    for name in ("PORT", "JWT_SECRET", "LOG_LEVEL"):
        assert f"  - {name}" in settings.stderr
    assert relay("tenant", "create").exit_code == 2
    assert relay("nonsense").exit_code == 2


def test_as_a_process(relay_database: TestDatabase, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": relay_database.dsn,
        "JWT_SECRET": JWT_SECRET,
        "ENCRYPTION_KEY": ENCRYPTION_KEY,
        "DATA_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "relay", "number", "list", "--tenant", "Nobody", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "There is no tenant “Nobody”. `relay tenant list` shows them.\n"


def test_migrate(relay: Relay) -> None:
    assert document(relay("migrate", "--json"))["revision"].isdecimal()


def test_keys_generate(relay: Relay) -> None:
    assert Settings.from_environment({"ENCRYPTION_KEY": relay("keys", "generate").stdout}).encryption_keys


def test_every_command_has_help(relay: Relay) -> None:
    overview = relay("--help").stdout
    for command in COMMANDS:
        assert f"  {command} " in overview


@pytest.mark.parametrize(
    "command", ["all", "serve", "worker", "migrate", "replay", "tenant", "number", "user"]
)
def test_help_of_each(relay: Relay, command: str) -> None:
    shown = relay(command, "--help", DATABASE_URL=None, JWT_SECRET=None, ENCRYPTION_KEY=None)
    assert shown.exit_code == 0
    assert f"Usage: main {command}" in shown.stdout


def test_without_a_redis_its_client_is_not_even_imported() -> None:
    code = "import sys, relay.serve, relay.worker; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
