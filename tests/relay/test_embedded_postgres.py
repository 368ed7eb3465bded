"""The embedded server: started once for all, stopped by its last user, healed after crashes, never root."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from relay.kit import embedded_postgres
from relay.kit.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError

AS_ROOT = os.geteuid() == 0

CLIENT = """
import sys
from pathlib import Path
import structlog
from relay.kit.embedded_postgres import EmbeddedPostgres
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
server = EmbeddedPostgres.start(Path(sys.argv[1]))
print(server.postmaster_pid(), flush=True)
sys.stdin.readline()
server.release()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that the server user can reach, which pytest's own (0700, root's) are not."""
    with tempfile.TemporaryDirectory(prefix="relaydesk-", dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A stopped cluster, for the tests that need no fresh one."""
    with tempfile.TemporaryDirectory(prefix="relaydesk-", dir="/tmp") as name:
        EmbeddedPostgres.start(Path(name)).release()
        yield Path(name)


def client(data_dir: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def server_pid(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def leave(process: "subprocess.Popen[str]") -> None:
    process.communicate("\n", timeout=30)
    assert process.returncode == 0


def eventually(condition: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_fresh_cluster_has_what_the_relay_relies_on(cluster: Path) -> None:
    with EmbeddedPostgres.start(cluster) as server, psycopg.connect(server.superuser_dsn()) as connection:
        row = connection.execute(
            "select current_setting('server_version_num')::int / 10000,"
            " current_setting('synchronous_commit'), current_setting('data_checksums'),"
            " current_setting('server_encoding'), current_setting('listen_addresses'),"
            " current_setting('timezone'),"
            " (select datlocprovider::text || datlocale from pg_database where datname = 'template1')"
        ).fetchone()
    assert row == (18, "on", "on", "UTF8", "", "UTC", "bC.UTF-8")


def test_a_wrong_password_is_refused_on_the_socket(cluster: Path) -> None:
    with EmbeddedPostgres.start(cluster) as server:
        password = (cluster / "password").read_text()
        stranger = server.superuser_dsn().replace(password, "guess")
        assert stranger != server.superuser_dsn()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(stranger)


def test_processes_share_one_server_and_the_last_one_stops_it(cluster: Path) -> None:
    first, second = client(cluster), client(cluster)
    pids = {server_pid(first), server_pid(second)}
    assert len(pids) == 1
    leave(first)
    with EmbeddedPostgres.start(cluster) as third:
        assert third.postmaster_pid() in pids
        leave(second)
        assert third.postmaster_pid() in pids
    assert third.postmaster_pid() is None
    assert not (cluster / "pgdata" / "postmaster.pid").exists()


def test_a_killed_user_no_longer_counts(cluster: Path) -> None:
    killed = client(cluster)
    server_pid(killed)
    with EmbeddedPostgres.start(cluster) as server:
        killed.kill()
        killed.communicate()
    assert server.postmaster_pid() is None


def test_many_starts_at_once_of_a_new_cluster_make_one(folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        servers = list(pool.map(lambda _: EmbeddedPostgres.start(folder / "db"), range(4)))
    assert len({server.postmaster_pid() for server in servers}) == 1
    with psycopg.connect(servers[0].superuser_dsn()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    for server in servers:
        assert server.postmaster_pid() is not None
        server.release()
    assert servers[0].postmaster_pid() is None


@pytest.mark.parametrize("crash", ["kill", "immediate"])
def test_what_was_committed_survives_a_crash_of_the_server(cluster: Path, crash: str) -> None:
    with EmbeddedPostgres.start(cluster) as server:
        with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
            connection.execute("drop table if exists kept")
            connection.execute("create table kept as select 42 as answer")
        before = server.postmaster_pid()
        assert before is not None
        if crash == "kill":
            os.kill(before, signal.SIGKILL)
        else:
            server.stop_immediately()
            assert server.postmaster_pid() is None
        server.restart()
        assert server.postmaster_pid() not in (None, before)
        with psycopg.connect(server.superuser_dsn()) as connection:
            assert connection.execute("select answer from kept").fetchone() == (42,)


def test_a_crash_while_nobody_is_there_heals_even_if_the_pid_belongs_to_another_program(
    cluster: Path,
) -> None:
    server = EmbeddedPostgres.start(cluster)
    pid, pid_file = server.postmaster_pid(), cluster / "pgdata" / "postmaster.pid"
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: server.postmaster_pid() is None)
    server.release()
    owner = pid_file.stat()
    other = (
        subprocess.Popen(  # a program of the server user's, so that Postgres may not tell it from a server
            ["sleep", "60"], user=owner.st_uid if AS_ROOT else None, extra_groups=[] if AS_ROOT else None
        )
    )
    try:
        for lock in (pid_file, cluster / "run" / ".s.PGSQL.5432.lock"):
            lines = lock.read_text().splitlines(keepends=True)
            lock.write_text("".join([f"{other.pid}\n", *lines[1:]]))
        with EmbeddedPostgres.start(cluster) as healed:
            assert healed.postmaster_pid() not in (None, pid, other.pid)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_an_interrupted_first_start_leaves_nothing_in_the_way(folder: Path) -> None:
    data_dir = folder / "db"
    starting = client(data_dir)
    eventually((data_dir / "pgdata.new" / "PG_VERSION").exists)
    starting.kill()
    starting.communicate()
    with EmbeddedPostgres.start(data_dir) as server, psycopg.connect(server.superuser_dsn()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_settings_hold_for_all_and_others_are_refused_while_it_runs(cluster: Path) -> None:
    with EmbeddedPostgres.start(cluster, settings={"synchronous_commit": "off"}) as server:
        with psycopg.connect(server.superuser_dsn()) as connection:
            assert connection.execute("show synchronous_commit").fetchone() == ("off",)
        with pytest.raises(EmbeddedPostgresError, match="synchronous_commit = local"):
            EmbeddedPostgres.start(cluster, settings={"synchronous_commit": "local"})
    with EmbeddedPostgres.start(cluster) as server, psycopg.connect(server.superuser_dsn()) as connection:
        assert connection.execute("show synchronous_commit").fetchone() == ("on",)


def test_a_bad_setting_is_reported_in_postgres_words(cluster: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"invalid value for parameter .max_connections"):
        EmbeddedPostgres.start(cluster, settings={"max_connections": "many"})
    EmbeddedPostgres.start(cluster).release()


def test_a_path_too_long_for_a_socket_works(folder: Path) -> None:
    data_dir = folder / ("long-" * 20) / "db"
    with EmbeddedPostgres.start(data_dir) as server:
        dsn = server.superuser_dsn()
        with psycopg.connect(dsn) as connection:
            assert connection.execute("show unix_socket_directories").fetchone() != (str(data_dir / "run"),)
        server.stop_immediately()
        server.restart()
        assert server.superuser_dsn() == dsn
    server._socket_dir.rmdir()


def test_a_cluster_of_another_major_version_is_refused_with_what_to_do(cluster: Path) -> None:
    version = cluster / "pgdata" / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by Postgres 17.*pg_dumpall"):
        EmbeddedPostgres.start(cluster)
    version.write_text("18\n")
    EmbeddedPostgres.start(cluster).release()


def test_a_folder_with_other_files_is_refused_and_left_alone(folder: Path) -> None:
    (folder / "letters.txt").write_text("dear")
    with pytest.raises(EmbeddedPostgresError, match=r"letters\.txt"):
        EmbeddedPostgres.start(folder)
    assert [path.name for path in folder.iterdir()] == ["letters.txt"]


def test_nobody_else_can_read_the_password_or_reach_the_socket(cluster: Path) -> None:
    with EmbeddedPostgres.start(cluster):
        assert stat.S_IMODE((cluster / "password").stat().st_mode) == 0o600
        for name in ("run", "pgdata", "log"):
            assert stat.S_IMODE((cluster / name).stat().st_mode) == 0o700


def test_an_attached_start_takes_less_than_a_second(cluster: Path) -> None:
    EmbeddedPostgres.start(cluster).release()
    started = time.monotonic()
    with EmbeddedPostgres.start(cluster):
        assert time.monotonic() - started < 5  # generous, for a busy machine; measured 0.13 s


@pytest.mark.skipif(not AS_ROOT, reason="only root hands the server to another user")
class TestAsRoot:
    def test_the_server_runs_as_an_unprivileged_user(self, cluster: Path) -> None:
        with EmbeddedPostgres.start(cluster) as server:
            assert server.postmaster_pid() is not None
            status = Path(f"/proc/{server.postmaster_pid()}/status").read_text()
            uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
            groups = next(line for line in status.splitlines() if line.startswith("Groups:")).split()[1:]
        assert "0" not in uids
        assert groups == []

    def test_the_server_user_cannot_change_what_root_reads(self, cluster: Path) -> None:
        for name in (".", "password", "postgresql.conf", "pg_hba.conf", "start.lock", "binaries"):
            assert (cluster / name).stat().st_uid == 0

    def test_no_folder_outside_gets_other_permissions(self, folder: Path) -> None:
        venv = Path(embedded_postgres._original_binaries())
        watched = [*folder.parents, folder, *venv.parents, venv, *venv.glob("embedded_postgres/**/*")]
        before = {path: (path.stat().st_mode, path.stat().st_uid) for path in watched}
        EmbeddedPostgres.start(folder / "a" / "db").release()
        assert {path: (path.stat().st_mode, path.stat().st_uid) for path in watched} == before

    def test_a_closed_parent_is_named_and_stays_closed(self, folder: Path) -> None:
        folder.chmod(0o700)
        with pytest.raises(
            EmbeddedPostgresError, match=rf"may not enter {folder} .*DATA_DIR=/var/lib/relaydesk"
        ):
            EmbeddedPostgres.start(folder / "db")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_another_users_folder_is_refused(self, folder: Path) -> None:
        os.chown(folder, 65534, 65534)
        with pytest.raises(EmbeddedPostgresError, match="belongs to"):
            EmbeddedPostgres.start(folder)

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # nothing else runs in this process
    def test_an_ordinary_user_needs_no_root(self, folder: Path) -> None:
        """The whole life of a server, in a process without privileges (on a copy of what it may not read)."""
        data_dir = folder / "db"
        data_dir.mkdir()
        os.chown(data_dir, 65534, 65534)
        pid = os.fork()
        if pid == 0:  # a fork keeps the imported modules, which the user could not load from root's home
            code = 1
            try:
                binaries = embedded_postgres._copied_binaries(folder)
                embedded_postgres._original_binaries = lambda: binaries
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                server = EmbeddedPostgres.start(data_dir)
                with psycopg.connect(server.superuser_dsn()) as connection:
                    assert connection.execute("select 1").fetchone() == (1,)
                server.release()
                code = 0 if server.postmaster_pid() is None else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert {path.stat().st_uid for path in data_dir.iterdir()} == {65534}
