"""Where the desktop keeps its files."""

import os
from pathlib import Path

import msgspec
import platformdirs

DATA_DIR_VARIABLE = "RELAYDESK_DATA_DIR"
_APP = "relaydesk"


class AppPaths(msgspec.Struct, frozen=True):
    """`data`: accounts and caches; `logs`: log and crash files. Both exist and are closed to other users."""

    data: Path
    logs: Path

    @property
    def accounts(self) -> Path:
        """One folder for each account, with its encrypted cache."""
        return self.data / "accounts"

    @property
    def current_account(self) -> Path:
        """Holds the id of the account to open at start."""
        return self.data / "current-account"


def app_paths(data_dir: Path | None = None) -> AppPaths:
    """The folders of this user, or everything under `data_dir` or `$RELAYDESK_DATA_DIR` (a profile)."""
    chosen = data_dir or (Path(override) if (override := os.environ.get(DATA_DIR_VARIABLE)) else None)
    if chosen is not None:
        paths = AppPaths(data=chosen, logs=chosen / "logs")
    else:
        dirs = platformdirs.PlatformDirs(_APP, appauthor=False)
        paths = AppPaths(data=dirs.user_data_path, logs=dirs.user_log_path)
    for folder in (paths.data, paths.logs):
        make_private_folder(folder)
    return paths


def make_private_folder(folder: Path) -> None:
    """Create `folder` for this user alone; an existing one is closed to others as well."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
