"""Secrets, folders, and one running desktop per profile."""

from collections.abc import Callable
from pathlib import Path

import keyring.core
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import KeyringLocked, PasswordDeleteError
from pytestqt.qtbot import QtBot

from desktop.platform.keyring import KeyringUnavailable, SessionSecrets, SystemKeyring
from desktop.platform.paths import DATA_DIR_VARIABLE, app_paths
from desktop.platform.single_instance import SingleInstance


class TrayKeyring(KeyringBackend):
    """Like a desktop's keyring; can be locked."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # keyring has no types here
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def _check(self) -> None:
        if self.locked:
            raise KeyringLocked("the collection is locked")

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        if (service, username) not in self.entries:
            raise PasswordDeleteError("not found")
        del self.entries[service, username]


@pytest.fixture
def tray(monkeypatch: pytest.MonkeyPatch) -> TrayKeyring:
    backend = TrayKeyring()
    monkeypatch.setattr(keyring.core, "get_keyring", lambda: backend)
    return backend


def test_secrets_are_kept_in_the_keyring(tray: TrayKeyring) -> None:
    store = SystemKeyring()
    assert store.lasting
    assert store.holder.endswith(".TrayKeyring")
    assert store.get("key") is None
    store.set("key", "secret")
    assert SystemKeyring().get("key") == "secret"
    assert tray.entries == {("relaydesk", "key"): "secret"}
    store.delete("key")
    store.delete("key")
    assert store.get("key") is None


def test_locked_keyring_is_told(tray: TrayKeyring) -> None:
    store = SystemKeyring()
    tray.locked = True
    uses: list[Callable[[], object]] = [
        lambda: store.get("a"),
        lambda: store.set("a", "b"),
        lambda: store.delete("a"),
    ]
    for use in uses:
        with pytest.raises(KeyringUnavailable) as caught:
            use()
        assert "the collection is locked" in caught.value.advice


def test_a_computer_without_a_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring.core, "get_keyring", NoKeyring)
    with pytest.raises(KeyringUnavailable):
        SystemKeyring()


def test_plain_files_are_no_keyring(tray: TrayKeyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrayKeyring, "priority", 0.5)  # what the library gives plain files
    with pytest.raises(KeyringUnavailable):
        SystemKeyring()


def test_session_secrets_end_with_their_object() -> None:
    store = SessionSecrets()
    store.set("key", "secret")
    assert store.get("key") == "secret"
    assert SessionSecrets().get("key") is None
    store.delete("key")
    assert store.get("key") is None
    assert not store.lasting


def test_folders_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / "profile"
    profile.mkdir(mode=0o755)
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(profile))
    paths = app_paths()
    assert paths.data == profile
    assert paths.accounts.parent == profile
    for folder in (paths.data, paths.logs):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert app_paths(tmp_path / "other").data == tmp_path / "other"


def test_second_start_hands_over_and_leaves(tmp_path: Path, qtbot: QtBot) -> None:
    first, second = SingleInstance(tmp_path), SingleInstance(tmp_path)
    assert first.claim()
    with qtbot.waitSignal(first.started_again, timeout=5_000) as told:
        assert not second.claim("wa://chat/1")
    assert told.args == ["wa://chat/1"]
    first.release()
    assert second.claim()
    second.release()


def test_profiles_run_side_by_side(tmp_path: Path, qtbot: QtBot) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = SingleInstance(tmp_path / "a"), SingleInstance(tmp_path / "b")
    assert first.claim()
    assert second.claim()
    first.release()
    second.release()
