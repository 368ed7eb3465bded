"""The scripts behind `make`: what they decide, without installing anything."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "packaging" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Machine:
    """A copy of the set-up's world: a project folder, a package manager and pip that only take notes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set_up = script("set_up")
        self.root = folder
        self.commands: list[list[str]] = []
        (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
        (folder / "requirements-dev.lock").write_text("uv==1 \\\n    --hash=sha256:0\n")
        for name, path in (
            ("ROOT", "."),
            ("VENV", ".venv"),
            ("VENV_PYTHON", ".venv/bin/python"),
            ("LOCK", "requirements-dev.lock"),
            ("STAMP", ".venv/set-up.json"),
        ):
            monkeypatch.setattr(self.set_up, name, folder / path)
        monkeypatch.setattr(self.set_up, "run", self.run)
        monkeypatch.setattr(
            self.set_up, "installed_packages", lambda: {"pip", "relaydesk", "uv", "left-over"}
        )
        monkeypatch.setattr(self.set_up, "venv_works", (folder / ".venv/bin/python").exists)

    def run(self, command: list[str]) -> None:
        self.commands.append(command)
        if "venv" in command:
            (self.root / ".venv/bin").mkdir(parents=True)
            (self.root / ".venv/bin/python").touch()

    def provide(self) -> list[str]:
        """What was done, one word a command."""
        self.commands.clear()
        self.set_up.provide_venv()
        words = ("venv", "--require-hashes", "uninstall", "--editable")
        return [word for command in self.commands for word in words if word in command]


ANEW = ["venv", "--require-hashes", "uninstall", "--editable"]
IN_PLACE = ANEW[1:]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_the_first_run_installs_and_the_second_only_looks(machine: Machine) -> None:
    assert machine.provide() == ANEW
    assert machine.provide() == []


def test_what_the_lock_does_not_name_is_removed(machine: Machine) -> None:
    machine.provide()
    assert machine.commands[2][-1] == "left-over"


def test_a_changed_lock_is_installed_in_place(machine: Machine) -> None:
    machine.provide()
    (machine.root / "requirements-dev.lock").write_text("uv==2 \\\n    --hash=sha256:1\n")
    assert machine.provide() == IN_PLACE
    assert machine.provide() == []


def test_only_what_matters_in_pyproject_counts(machine: Machine) -> None:
    machine.provide()
    pyproject = machine.root / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + "\n[tool.elsewhere]\nx = 1\n")
    assert machine.provide() == []
    pyproject.write_text(pyproject.read_text().replace('relay = "relay.cli:main"', 'relay = "relay.cli:run"'))
    assert machine.provide() == IN_PLACE


def test_a_broken_or_moved_environment_is_made_anew(machine: Machine) -> None:
    machine.provide()
    (machine.root / ".venv/bin/python").unlink()
    assert machine.provide() == ANEW
    stamp = json.loads(machine.set_up.STAMP.read_text())
    machine.set_up.STAMP.write_text(json.dumps({**stamp, "venv": "/elsewhere/.venv"}))
    assert machine.provide() == ANEW


def test_an_interrupted_set_up_does_not_look_finished(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(command: list[str]) -> None:
        if "--editable" in command:
            raise KeyboardInterrupt
        machine.run(command)

    with monkeypatch.context() as patch:
        patch.setattr(machine.set_up, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            machine.set_up.provide_venv()
    assert machine.provide() == ANEW


def test_without_privileges_one_line_names_all_that_is_missing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine.set_up, "loads", lambda library: library != "libEGL.so.1")
    monkeypatch.setattr(machine.set_up, "font_exists", lambda file: not file.startswith("Inter"))
    monkeypatch.setattr(machine.set_up.shutil, "which", lambda program: None)
    monkeypatch.setattr(machine.set_up, "root_privilege", lambda: None)
    with pytest.raises(SystemExit):
        machine.set_up.provide_system_packages("test")
    line = "sudo apt-get install -y libegl1 redis-server xvfb fonts-inter"
    assert [text.strip() for text in capsys.readouterr().err.splitlines() if "apt-get" in text] == [line]


def test_missing_fonts_alone_stop_nobody(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine.set_up, "loads", lambda library: True)
    monkeypatch.setattr(machine.set_up, "font_exists", lambda file: False)
    monkeypatch.setattr(machine.set_up, "root_privilege", lambda: None)
    machine.set_up.provide_system_packages("demo")
    assert "fonts-inter" in capsys.readouterr().err


def test_an_old_python_is_told_what_to_do(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.set_up.sys, "version_info", (3, 9, 2))
    with pytest.raises(SystemExit):
        machine.set_up.main("demo")
    assert machine.commands == []


def test_the_lock_files_belong_to_this_pyproject() -> None:
    assert script("lock").check() == []


def test_a_changed_dependency_makes_the_lock_files_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = script("lock")
    for name in ("pyproject.toml", lock.DEV, lock.RELAY, lock.DESKTOP):
        (tmp_path / name).write_text((ROOT / name).read_text().replace("msgspec>=0.22", "msgspec>=0.23"))
    monkeypatch.setattr(lock, "ROOT", tmp_path)
    assert len(lock.check()) == 3


@pytest.mark.parametrize(
    "line",
    [
        "https://py" + "pi.org/simple",
        "see /ro" + "ot/notes.txt",
        "cd /ho" + "me/ann/relaydesk",
        "x" * 1_100_000,
    ],
)
def test_what_does_not_belong_into_the_repository_is_found(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_tree = script("check_tree")
    monkeypatch.setattr(check_tree, "ROOT", tmp_path)
    (tmp_path / "fine.md").write_text("https://example.org/root/ and ~/relaydesk are fine\n")
    (tmp_path / "bad.md").write_text(f"{line}\n")
    subprocess.run(["git", "init", "--quiet"], check=True, cwd=tmp_path)
    subprocess.run(["git", "add", "."], check=True, cwd=tmp_path)
    assert [finding.split(":")[0] for finding in check_tree.findings()] == ["bad.md"]


def test_the_scripts_run_on_a_bare_interpreter() -> None:
    """set_up.py runs before anything is installed: only the standard library may be imported."""
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-I",
            "-c",
            f"import runpy; runpy.run_path({str(ROOT / 'packaging/set_up.py')!r})",
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
