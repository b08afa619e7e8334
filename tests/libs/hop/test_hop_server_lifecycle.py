"""A real process under real signals: nothing is lost, wrong settings are told before anything binds; before its first call
memory is settled, the way of a call passed, and only then is it ready."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.hop import config
from headrace.hop.call import Call
from headrace.hop.client import settings as rules
from headrace.hop.client.dial import Client
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server import hosting
from headrace.hop.server.serve import serving
from headrace.hop.transport.in_process import LocalServers
from tests.children import ends_with_tests
from tests.libs.hop.hop_callee import fault_of
from tests.libs.hop.hop_echo import ECHO, ONE, EchoServicer, caller
from tests.services.waiting import until

ROOT = Path(__file__).parents[3]


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hop-") as name:  # short: a unix socket's path has 107 bytes
        yield Path(name)


def write_config(directory: Path, telemetry: dict[str, object] | None = None, **server: object) -> Path:
    path = directory / "echo.yaml"
    values = {"listen": f"unix:{directory}/echo", "drain_notice_s": 0.1, "drain_s": 10.0, **server}
    path.write_text(yaml.safe_dump({"server": values, "telemetry": telemetry or {}}))
    return path


async def start(config_path: Path, *extra: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *ends_with_tests(
            sys.executable, "-m", "tests.libs.hop.hop_echo", "--config", str(config_path), *extra
        ),
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


@asynccontextmanager
async def running(config_path: Path, *extra: str) -> AsyncIterator[tuple[Process, Log]]:
    process = await start(config_path, *extra)
    log = Log(process)
    try:
        await log.wait_for("serving")
        yield process, log
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await log.end()


class Log:
    """The JSON lines that a process writes, as they come."""

    def __init__(self, process: Process) -> None:
        self.lines: list[str] = []
        self._news = asyncio.Event()
        assert process.stderr is not None
        self._task = asyncio.create_task(self._read(process.stderr))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.lines.append(line.decode())
            self._news.set()
        self._news.set()

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.lines if line.startswith("{")]

    async def wait_for(self, event: str) -> None:
        async with asyncio.timeout(20):
            while event not in self.events():
                assert not self._task.done(), "".join(self.lines)
                self._news.clear()
                await self._news.wait()

    async def end(self) -> None:
        await self._task


async def load(call: Callable[[], Awaitable[object]], stop: asyncio.Event, answers: list[Any]) -> None:
    """Calls back to back until told to stop, or until refused; what fails is an answer too."""
    while not stop.is_set():
        try:
            answers.append(await call())
        except hop.Fault as fault:
            answers.append(fault)
            return


def faults_of(answers: list[Any]) -> list[hop.Fault]:
    return [answer for answer in answers if isinstance(answer, hop.Fault)]


async def test_sigterm_under_load_loses_no_call(directory: Path) -> None:
    config_path = write_config(directory, telemetry={"log_level": "debug"})
    async with running(config_path) as (process, log), caller(f"unix:{directory}/echo") as call:
        stop = asyncio.Event()
        answers: list[Any] = []
        slow = [asyncio.create_task(call("sleep 1.0", timeout=60)) for _ in range(4)]
        workers = [
            asyncio.create_task(load(lambda: call("sleep 0.005", timeout=60), stop, answers))
            for _ in range(8)
        ]
        await until(lambda: len(answers) > 100)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        stop.set()
        await asyncio.gather(*workers)
        assert [await task for task in slow] == ["sleep 1.0"] * 4

    # A worker ends with the one call that nobody took; every call that the server took was answered.
    faults = faults_of(answers)
    assert {fault.reason for fault in faults} <= {hop.Reason.REASON_UNREACHABLE}
    assert log.events().count("call") == len(answers) - len(faults) + len(slow)
    assert "call failed" not in log.events()
    assert log.events().index("drained") > log.events().index("serving")
    assert not (directory / "echo").exists()


async def test_a_replacement_takes_the_socket_over_without_a_failed_call(directory: Path) -> None:
    config_path = write_config(directory)
    # Without a retry of hop's, which would hide a call that was lost.
    once = config.RetrySettings(attempts=1)
    client = hop.Client("echo", config.ClientSettings(target=f"unix:{directory}/echo", retry=once))
    one = client.unary(ONE)

    def call() -> Coroutine[Any, Any, StringValue]:
        return one(StringValue(value="sleep 0.005"), deadline=time.monotonic() + 10)

    async with running(config_path) as (old, _):
        stop = asyncio.Event()
        answers: list[Any] = []
        workers = [asyncio.create_task(load(call, stop, answers)) for _ in range(8)]
        async with running(config_path, "--replace") as (new, _):
            old.send_signal(signal.SIGTERM)
            assert await old.wait() == 0
            begun = len(answers)
            await until(lambda: len(answers) > begun + 200 or faults_of(answers))
            stop.set()
            await asyncio.gather(*workers)
            assert faults_of(answers) == []
            new.send_signal(signal.SIGTERM)
            assert await new.wait() == 0
    await client.close()
    assert list(directory.glob("echo*")) == [config_path]


async def test_a_second_signal_ends_the_process_at_once(directory: Path) -> None:
    config_path = write_config(directory, drain_notice_s=60.0)
    async with running(config_path) as (process, log):
        process.send_signal(signal.SIGTERM)
        while log.events().count("health") < 2:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 128 + signal.SIGTERM
        assert time.monotonic() - began < 30  # not the notice


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("server: [", "echo.yaml, line 1, near the key 'server': while parsing a flow node"),
        ("server: {listen: '127.0.0.1:0'}", "needs server.tls"),
        ("server: {listen: 'unix:/tmp/headrace.sock'}", "must belong to this user and be private"),
        ("server: {listen: 'unix:{d}/s'}\ntelemetry: {metrics: nowhere}", "is not host:port"),
        (
            "server: {listen: 'unix:{d}/s'}\ntelemetry: {metrics: '192.0.2.1:80'}",
            "cannot listen on 192.0.2.1:80",
        ),
        (
            "server: {listen: '127.0.0.1:0', tls: {certificate: {d}/c, key: {d}/k, ca: {d}/ca}}",
            "server.tls: ",
        ),
    ],
)
async def test_wrong_settings_are_one_clear_line_and_exit_2(
    directory: Path, settings: str, complaint: str
) -> None:
    path = directory / "echo.yaml"
    path.write_text(settings.replace("{d}", str(directory)))
    process = await start(path)
    _, stderr = await process.communicate()

    assert process.returncode == 2
    line, *more = stderr.decode().splitlines()
    assert more == []
    assert line.startswith("echo: ")
    assert complaint in line


async def test_a_socket_in_use_is_not_stolen_and_one_left_by_a_killed_process_is_taken(
    directory: Path,
) -> None:
    config_path, target = write_config(directory), f"unix:{directory}/echo"
    async with running(config_path) as (process, _):
        second = await start(config_path)
        _, stderr = await second.communicate()
        assert second.returncode == 2
        assert "another process listens" in stderr.decode()
        async with caller(target) as call:
            assert await call("hello") == "hello"
        process.kill()
        await process.wait()
    assert (directory / "echo").exists()

    async with running(config_path), caller(target) as call:
        assert await call("hello") == "hello"
        assert (directory / "echo").stat().st_mode & 0o077 == 0


class Warmed:
    """An echo service that notes what it does; its warm-up lasts until the test lets it end."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.may_end = asyncio.Event()
        self.began = asyncio.Event()
        self.servicer = EchoServicer()
        self.definition = hop.Definition("echo", config.ServiceSettings, self._build)

    async def warm(self) -> None:
        self.done.append("warm")
        await self.servicer.One(StringValue(value="warm-up"), Call("", hop.Peer("local")))
        self.began.set()
        await self.may_end.wait()

    @asynccontextmanager
    async def _build(
        self, _settings: config.ServiceSettings, _runtime: hop.Runtime
    ) -> AsyncIterator[Sequence[hop.Service]]:
        self.done.append("built")
        yield [hop.Service(ECHO, self.servicer, warm_up=self.warm)]


@pytest.fixture
def warmed() -> Warmed:
    return Warmed()


async def test_calls_come_when_memory_is_settled_and_the_way_is_passed(
    tmp_path: Path, warmed: Warmed
) -> None:
    address = f"unix:{tmp_path}/echo"
    settings = config.ServiceSettings(server=config.Server(listen=address, drain_notice_s=0))
    client = Client("echo", rules.ClientRules(address, retry=rules.RetryRules(attempts=1)))

    async def call() -> str:
        reply = await client.unary(ONE)(StringValue(value="hello"), deadline=time.monotonic() + 60)
        return reply.value

    server = serving(warmed.definition, settings, settle=lambda: warmed.done.append("settled"))
    opening = asyncio.create_task(server.__aenter__())
    try:
        await asyncio.wait_for(warmed.began.wait(), 60)
        assert warmed.done == ["built", "settled", "warm"]
        assert (await fault_of(call())).code is hop.Code.UNAVAILABLE
        warmed.may_end.set()
        await opening
        assert await call() == "hello"
    finally:
        warmed.may_end.set()
        await opening
        await server.__aexit__(None, None, None)
        await client.close()


async def test_a_hosted_service_is_warm_before_it_is_found(warmed: Warmed) -> None:
    telemetry = Telemetry("echo", config.Telemetry(log_level="warning"))
    local = LocalServers(telemetry)
    settings = config.ServiceSettings(server=config.Server(listen="local"))
    hosted = hosting.hosted([(warmed.definition, settings)], telemetry, local)
    opening = asyncio.create_task(hosted.__aenter__())
    await asyncio.wait_for(warmed.began.wait(), 60)
    assert local.names() == []
    warmed.may_end.set()
    await opening
    assert local.names() == ["echo"]
    await hosted.__aexit__(None, None, None)
    await telemetry.close()


async def test_a_service_that_is_not_ready_answers_and_says_so(tmp_path: Path) -> None:
    becomes_ready = asyncio.Event()

    async def ready() -> None:
        await becomes_ready.wait()

    @asynccontextmanager
    async def build(
        _settings: config.ServiceSettings, _runtime: hop.Runtime
    ) -> AsyncIterator[Sequence[hop.Service]]:
        yield [hop.Service(ECHO, EchoServicer(), ready=ready)]

    address = f"unix:{tmp_path}/echo"
    settings = config.ServiceSettings(server=config.Server(listen=address, drain_notice_s=0))
    definition = hop.Definition("echo", config.ServiceSettings, build)
    client = Client("echo", rules.ClientRules(address))
    async with serving(definition, settings) as running:
        reply = await client.unary(ONE)(StringValue(value="hello"), deadline=time.monotonic() + 60)
        assert (reply.value, running.health.serving) == ("hello", False)
        becomes_ready.set()
        await until(lambda: running.health.serving)
    await client.close()
    # It may also end without ever having been ready.
    becomes_ready.clear()
    async with serving(definition, settings) as running:
        pass
    assert not running.health.serving
