"""House rules of the relay that no linter knows, read from its source."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

RELAY = Path(__file__).resolve().parents[2] / "relay"
# Programs of their own, which only share the repository with the server.
APART = ("sandbox", "demo.py", "demo_programs.py")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(RELAY.rglob("*.py")):
        name = path.relative_to(RELAY).as_posix()
        if not name.startswith(APART):
            yield name, ast.parse(path.read_text(), name)


def calls(tree: ast.AST) -> Iterator[str]:
    """The dotted names of everything called, as written; `?` for what has no name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield _dotted(node.func)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def reads_the_clock(name: str) -> bool:
    return name.endswith(("datetime.now", "datetime.utcnow", "date.today")) or name == "time.time"


def commits(name: str) -> bool:
    return name.endswith(".commit")


def works_across_tenants(name: str) -> bool:
    return name.endswith(("database.system", "database.owner"))


def writes_sql(name: str) -> bool:
    return name in ("text", "sqlalchemy.text", "select", "insert", "update", "delete")


ONLY_IN: dict[Callable[[str], bool], set[str]] = {
    reads_the_clock: {"kit/clock.py"},
    # The framework's and our own mistakes with transactions all began with a commit somewhere else.
    commits: {"kit/db.py"},
    works_across_tenants: {
        "accounts/attempts.py",
        "accounts/identity.py",
        "accounts/service.py",
        "accounts/sessions.py",
        "accounts/upkeep.py",
        "health.py",
        "inbound/lanes.py",
        "inbound/partitions.py",
        "inbound/replay.py",
        "inbound/splitter.py",
        "numbers/endpoints.py",
        "numbers/service.py",
        "outbound/reconcile.py",
        "outbound/sender.py",
        "sync/service.py",
    },
    writes_sql: {
        "accounts/models.py",
        "accounts/queries.py",
        "accounts/upkeep.py",
        "conversations/contact_queries.py",
        "conversations/models.py",
        "conversations/queries.py",
        "health.py",
        "inbound/models.py",
        "inbound/partitions.py",
        "inbound/queries.py",
        "inbound/replay.py",
        "kit/db.py",
        "migrate.py",
        "numbers/models.py",
        "numbers/queries.py",
        "outbound/attempt_queries.py",
        "outbound/models.py",
        "outbound/pacing.py",
        "outbound/queries.py",
        "sync/feed.py",
        "sync/models.py",
        "sync/queries.py",
    },
}


@pytest.mark.parametrize("rule", ONLY_IN, ids=lambda rule: rule.__name__)
def test_only_the_named_modules(rule: Callable[[str], bool]) -> None:
    found = {
        name
        for name, tree in modules()
        if not name.startswith("migrations/") and any(rule(call) for call in calls(tree))
    }
    assert found - ONLY_IN[rule] == set(), "this belongs elsewhere, or the list needs a thought"
    assert ONLY_IN[rule] - found == set(), "no longer needed in the list"


def test_routes_hold_no_rules() -> None:
    """HTTP in and out: no transaction is opened and no row touched in a routes module."""
    for name, tree in modules():
        if name.endswith("routes.py"):
            opened = [call for call in calls(tree) if call.startswith("database.")]
            assert opened == [], f"{name} works on the database itself"
