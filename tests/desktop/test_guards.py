"""Guards against faults that only show after a while: lost references, nested loops, wrong versions."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QObject

from desktop import guards

DESKTOP = Path(guards.__file__).parent


def test_qt_does_not_lose_references_of_none(qapp: QObject) -> None:
    """PySide6 6.12 under Python 3.11 loses one per call and aborts after some thousands."""
    if sys.version_info >= (3, 12):
        pytest.skip("None is immortal from Python 3.12 on")
    target = QObject()
    target.setObjectName("warm up")
    before = sys.getrefcount(None)
    for _ in range(1_000):
        target.setObjectName("x")
    assert abs(sys.getrefcount(None) - before) < 100


@pytest.mark.parametrize(
    ("python", "pyside", "runs"),
    [
        ((3, 11), "6.11.3", True),
        ((3, 11), "6.12.0", False),
        ((3, 11), "6.13.1", False),
        ((3, 11), "7.0.0", False),
        ((3, 12), "6.12.0", True),
        ((3, 11), "", False),
    ],
)
def test_version_pairs(python: tuple[int, int], pyside: str, runs: bool) -> None:
    assert (guards.problem_with(python, pyside) == "") is runs


def test_a_pair_that_crashes_is_refused_with_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guards, "version", lambda _name: "6.12.0")
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    with pytest.raises(SystemExit) as caught:
        guards.check_versions()
    assert caught.value.code == 2
    assert "PySide6 6.12.0 crashes on Python 3.11" in capsys.readouterr().err


def test_versions_installed_here_are_accepted() -> None:
    guards.check_versions()


# --- nested loops ---------------------------------------------------------------------------------

STATIC_DIALOGS = {"QMessageBox", "QFileDialog", "QInputDialog", "QColorDialog", "QFontDialog"}


def nested_loops(source: str) -> list[int]:
    """Lines of coroutines that start a nested event loop."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.AsyncFunctionDef):
            found += [call.lineno for call in own_calls(function) if starts_loop(call)]
    return found


def own_calls(function: ast.AST) -> Iterator[ast.Call]:
    """Calls in the body, without functions defined in it: those run when Qt calls them."""
    for child in ast.iter_child_nodes(function):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from own_calls(child)


def starts_loop(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    name, of = call.func.attr, call.func.value
    if name in {"exec", "exec_"}:
        return True
    if not isinstance(of, ast.Name) or of.id not in STATIC_DIALOGS:
        return False
    return name in {"about", "aboutQt", "critical", "information", "question", "warning"} or name.startswith(
        "get"
    )


@pytest.mark.parametrize(
    "line",
    [
        "dialog.exec()",
        "await thing(menu.exec(position))",
        "QMessageBox.information(self, 'a', 'b')",
        "path, _ = QFileDialog.getOpenFileName(self)",
        "drag.exec_()",
    ],
)
def test_the_lint_finds_nested_loops(line: str) -> None:
    assert nested_loops(f"async def f(self):\n    if True:\n        {line}\n") == [3]


@pytest.mark.parametrize(
    "source",
    [
        "def f(self):\n    dialog.exec()\n",
        "async def f(self):\n    def slot():\n        dialog.exec()\n",
        "async def f(self):\n    await dialogs.ask(dialog)\n    QMessageBox(self)\n",
    ],
)
def test_the_lint_leaves_the_rest_alone(source: str) -> None:
    assert nested_loops(source) == []


@pytest.mark.parametrize("path", sorted(DESKTOP.rglob("*.py")), ids=lambda path: str(path.name))
def test_no_nested_loop_in_a_coroutine(path: Path) -> None:
    assert nested_loops(path.read_text(encoding="utf-8")) == []


# --- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["engine", "cache"])
def test_the_engine_knows_no_qt(folder: str) -> None:
    for path in (DESKTOP / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in modules if name.startswith(("PySide6", "qasync"))], path


def test_what_is_imported_before_the_first_paint_is_light() -> None:
    """SQLAlchemy alone takes a third of a second: it belongs on the engine's thread."""
    import subprocess

    heavy = "sqlalchemy,httpx,websockets,sqlcipher3,aiosqlite,keyring"
    code = (
        "import sys, desktop.bridge.bridge, desktop.bridge.tasks, desktop.engine.events, desktop.cache.rows\n"
        f"found = [name for name in {heavy!r}.split(',') if name in sys.modules]\n"
        "sys.exit(' '.join(found) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
