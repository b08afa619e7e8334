"""A real process of control for the tests that need one."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any, Self

import yaml

from headrace.catalog.errors import RecordsUnavailableError
from headrace.catalog.remote import RemoteRecords
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.testing import served
from headrace.resources.manifest import new_keys
from services.control.wiring import SERVICE
from tests.children import ends_with_tests


@dataclass(frozen=True, slots=True)
class Here:
    """A control in this process. `public_key`: file with that of what it signs."""

    target: str
    database: str
    public_key: Path
    telemetry: Telemetry

    def metric(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(name, labels)

    def execute(self, statement: str, *parameters: object) -> None:
        """SQL on the file of SQLite, behind its back."""
        execute(self.database, statement, *parameters)


def execute(database: str, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.execute(statement, parameters)


# For the tests' own process: where nothing is killed or frozen.
@contextmanager
def control_here(folder: Path, *, keys: tuple[bytes, bytes] | None = None, **settings: Any) -> Iterator[Here]:
    """A control on a thread of this process, at a real socket; it is ready. Its database is in `folder`, which is made."""
    private, public = keys or new_keys()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.pem").write_bytes(private)
    (folder / "key.pub").write_bytes(public)
    values = {
        "database": str(folder / "control.sqlite"),
        "initialise": True,
        "signing_key": folder / "key.pem",
        "settle_s": 0,
        **settings,
    }
    started: Queue[Here | None] = Queue()
    ended = threading.Event()

    async def serve() -> None:
        async with served(SERVICE, values) as harness:
            while not (harness.running and harness.running.health.serving):
                await asyncio.sleep(0.005)
            started.put(
                Here(harness.target, values["database"], folder / "key.pub", harness.runtime.telemetry)
            )
            await asyncio.to_thread(ended.wait)

    with ThreadPoolExecutor(1) as thread:
        serving = thread.submit(asyncio.run, serve())
        serving.add_done_callback(lambda _: started.put(None))
        try:
            found = started.get()
            assert found is not None, serving.result()
            yield found
        finally:
            ended.set()
            serving.result()


ROOT = Path(__file__).parents[1]


class ControlService:
    """It can be stopped, killed, frozen and started again with the same database. `target`: its socket. `public_key`: PEM of what
    it signs. `database`: a new file of SQLite, or an address. `settings`: further ones."""

    def __init__(
        self, database: str = "", *, keys: tuple[bytes, bytes] | None = None, **settings: Any
    ) -> None:
        # Short, as the names of sockets are bounded; nobody else may look into it.
        self.folder = Path(tempfile.mkdtemp(prefix="control-"))
        private, self.public_key = keys or new_keys()
        (self.folder / "key.pem").write_bytes(private)
        self.socket = self.folder / "control.sock"
        self.target = f"unix:{self.socket}"
        self.database = database or str(self.folder / "control.sqlite")
        self.settings = {
            "server": {"listen": self.target, "drain_notice_s": 0.0},
            "telemetry": {"log_level": "info"},
            "database": self.database,
            "initialise": True,
            "signing_key": str(self.folder / "key.pem"),
            "settle_s": 0,
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self, *, ready: bool = True) -> None:
        """`ready`: returns once it answers."""
        config = self.folder / "control.yaml"
        config.write_text(yaml.safe_dump(self.settings))
        command = ends_with_tests(sys.executable, "-m", "services.control", "--config", str(config))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        if ready:
            self._until_ready()

    def records(self) -> RemoteRecords:
        """A client, which waits for a control that starts; the caller closes it."""
        return RemoteRecords(self.target, patience_s=60.0)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """As a supervisor does. Returns its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait()
        self._process = None
        return code

    def execute(self, statement: str, *parameters: object) -> None:
        """SQL on the file of SQLite, behind its back."""
        execute(self.database, statement, *parameters)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _until_ready(self) -> None:
        with closing(self.records()) as records:
            try:
                records.position()
            except RecordsUnavailableError as error:
                raise RuntimeError(f"control is not ready: {self.log[-2000:]}") from error
