"""A home with releases, models, audits and operators, the console over it, and a browser without a network."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import structlog

from headrace.access import changes
from headrace.access.records import By
from headrace.access.specs import TenantSpec, new_key
from headrace.analysis import Count, ReadOut
from headrace.columns import DType
from headrace.pipeline import parse
from headrace.releases import Arm, Experiment, Release, Rollout, RolloutState
from headrace.releases.ladder import Action, Answer, RolloutVerdict
from headrace.releases.of_records import RecordReleases
from headrace.repository import TensorSpec
from headrace.repository import changes as model_changes
from headrace.repository.access_log import AccessLog
from headrace.ticks import LATENCY_BUCKETS, ArmFigures, ArmName, Tick, added, latency_bucket
from services.monitoring.alerts.watch import Watch
from services.monitoring.console.assembly import console
from services.monitoring.console.ports import ConsoleSources, Panel, PanelRow, PanelSource, Sources
from services.monitoring.console.settings import ConsoleSettings
from services.monitoring.guards.guard import Finding, Verdict
from services.monitoring.outcomes.records import Outcome
from services.monitoring.rollouts.analyser import Status
from services.monitoring.rollouts.judgement import Judgement
from services.monitoring.ticks import Ticks
from tests.first_release import first_release
from tests.libs.repository.signed_models import signed
from tests.ports import free_port
from tests.released import keep_document
from tests.services.monitoring.monitoring_events import World
from tests.system import ROOT

DOCUMENT = """
pipeline: {name}
version: 1
deadline_ms: 1000
inputs: {{x: float32}}
stages:
  - {{model: m, name: {model}, inputs: {{x: x}}, outputs: {{y: {{column: y, type: float32}}}}}}
outputs: [y]
"""
# Of an operator, for people and programs.
PAGES = [
    "/",
    "/pipelines/flights",
    "/pipelines/flights/rollback",
    "/pipelines/flights/actions/freeze",
    "/freeze",
    "/requests",
    "/incidents",
    "/incidents/runbooks/auth-failures",
    "/models",
    "/models/light/2",
    "/audit",
]
START = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
SLOW_S = 0.05


@dataclass
class Place:
    """The clocks are set by the test: `wall` seconds since 1970, `monotonic` seconds. Who opens `releases` closes them."""

    folder: Path
    releases: RecordReleases
    wall: float = START.timestamp()
    monotonic: float = 100.0
    statuses: dict[str, Status] = field(default_factory=dict)
    experiment: tuple[Experiment, ReadOut] | None = None
    panels: list[PanelSource] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    requests: ConsoleSources | None = None
    traces: Path | None = None
    alertmanager: str | None = None
    alerts: Watch | None = None
    opened: list[World] = field(default_factory=list)
    # Setting of a service that has the same releases.
    control: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model_log = self.folder / "audit" / "models.jsonl"
        self.store = self.releases
        self.ticks = Ticks(lambda: self.monotonic)
        self.sequence = 0
        self.arms: dict[ArmName, ArmFigures] = {}
        for name, scopes in (("operator", ("operate",)), ("reader", ("read",))):
            self.add_key(name, scopes)
        log = AccessLog(self.model_log, "executor", self.now)
        log.record("loaded", "light", "1")
        log.record("loaded", "light", "2")
        self.models = signed(self.folder)
        x, y = (TensorSpec(name, DType.FLOAT32, ()) for name in "xy")
        for version, parents in (("1", []), ("2", ["light:1"])):
            about = self.models.put(
                version, inputs=[x], outputs=[y], lineage={"parents": parents}, metrics={"auc": 0.742}
            )
            model_changes.add(self.releases.records, about, "ann")

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall, UTC)

    def add_key(self, tenant: str, scopes: tuple[Any, ...]) -> None:
        self.keys[tenant], key = new_key(created=START)
        changes.add_key(self.releases.records, tenant, key, lambda _: TenantSpec(scopes=scopes), By("tests"))

    def deploy(self, name: str = "flights", version: str = "1", reason: str = "", **changes: Any) -> Release:
        """The next release, with this version of the model `light`."""
        text = DOCUMENT.format(name=name, model="light")
        pipeline = parse(text, name)
        keep_document(self.store, name, pipeline.revision, text)
        arm = Arm(version=1, revision=pipeline.revision, models={"light": version})
        before, _ = self.store.current(name)
        if before is None:
            made = first_release(pipeline, arm.models, "ann", reason or "the first")
        else:
            arms = {"live": arm, **changes.pop("arms", {})}
            made = before.next("ann", reason, arms=arms, **changes)
        return self._commit(made)

    def _commit(self, made: Release) -> Release:
        made = made.model_copy(update={"at": self.now()})
        self.store.commit(made)
        return made

    def roll_out(self, name: str = "flights") -> Release:
        """A rollout of version 2 at its second step, 5 %."""
        before = self.store.current(name)[0]
        assert before is not None
        arm = before.live.model_copy(update={"models": {"light": "2"}})
        number = before.number + 1
        rollout = Rollout(arm="candidate", step=1, since=number, started=self.now())
        made = before.next(
            "ann",
            "roll out light 2",
            arms={**before.arms, "candidate": arm},
            assign={"weights": {"live": 0.95, "candidate": 0.05}, "salt": f"s{number}"},
            rollout=rollout,
        )
        self.statuses[name] = judged(number, Verdict.NOT_ENOUGH_DATA)
        return self._commit(made)

    def end_rollout(self, name: str, verdict: str, state: RolloutState) -> Release:
        """As the ladder ends it."""
        before = self.store.current(name)[0]
        assert before is not None
        assert before.rollout is not None
        ended = before.rollout.model_copy(update={"state": state, "verdict": verdict})
        made = before.next("ladder", verdict, assign={"weights": {"live": 1.0}}, rollout=ended)
        return self._commit(made)

    def answer(
        self, rows: int, errors: int = 0, *, name: str = "flights", arm: str = "live", ms: float = 12.0
    ) -> None:
        """A router has answered so many rows more."""
        key = ArmName(name, self.store.history(name)[0].number, arm)
        latency = tuple(rows * (i == latency_bucket(ms / 1000)) for i in range(LATENCY_BUCKETS))
        more = ArmFigures(rows, errors, latency)
        self.arms[key] = added(self.arms[key], more) if key in self.arms else more

    def report(self) -> None:
        """The router's next tick."""
        self.sequence += 1
        self.ticks.take(Tick(1, self.sequence, 0, dict(self.arms)))

    def sources(self) -> Sources:
        async def read_out(_: str) -> tuple[Experiment, ReadOut] | None:
            return self.experiment

        async def none(*_: str) -> Sequence[Outcome]:
            return ()

        others = replace(
            self.requests or ConsoleSources(none),
            panels=self.panels,
            alerts=self.alerts,
        )
        return Sources(self.store, self.ticks, self.statuses.get, lambda _: SLOW_S, read_out, others)

    def settings(self, listen: str = "127.0.0.1:0") -> ConsoleSettings:
        return ConsoleSettings(
            listen=listen,
            secret=self.folder / "console.key",
            security=self.folder / "audit" / "security.jsonl",
            models=self.models.root,
            model_keys=(self.models.public,),
            model_audit=self.model_log,
            readings=self.folder / "audit" / "readings.jsonl",
            traces=self.traces,
            runbooks=ROOT / "deploy" / "runbooks",
            alertmanager=self.alertmanager,
        )

    @asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[None]:
        """The console on a socket; it listens."""
        clocks = (lambda: self.wall), (lambda: self.monotonic)
        settings = self.settings(f"127.0.0.1:{port}")
        async with console(settings, self.sources(), structlog.get_logger(), *clocks):
            async with asyncio.timeout(60):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except ConnectionError:
                        await asyncio.sleep(0.02)
                    else:
                        writer.close()
                        break
            yield

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        """A browser of this console."""
        port = free_port()
        async with self.serving(port):
            browser = Browser(port)
            try:
                yield browser
            finally:
                browser.close()

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Browser]:
        """A browser in which the operator has signed in."""
        async with self.browser() as browser:
            await browser.sign_in(self.keys["operator"])
            yield browser

    def close(self) -> None:
        """Lets go of the events' files."""
        for world in self.opened:
            world.close()

    def security_events(self) -> list[dict[str, Any]]:
        """What is in the security log; only after the console has ended."""
        path = self.folder / "audit" / "security.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def judged(number: int, verdict: Verdict, bad: int = 1) -> Status:
    """As the analyser sees a rollout at 5 %."""
    live, few = Count(24_000, 24), Count(1_260, bad)
    guard = Finding("errors", verdict, "go_back", "", live, few, 0.8, 100.0, 3.2, 20.0, 0.0061, 0.005)
    times = Count(24_000, 300), Count(1_260, 15)
    slow = Finding(
        "slow", Verdict.PROVEN_FINE, "go_back", "", *times, 0.3, 100.0, 31.0, 20.0, 0.004, 0.05, 0.05
    )
    action = Action.ROLL_BACK if verdict == Verdict.HARM else Action.HOLD
    why = "errors: an excess of at most 0.61% allows 5.00%, the next step is 25.00%"
    judgement = Judgement(RolloutVerdict.MAY_STEP_UP, why, "more figures", verdict, (guard, slow))
    return Status(number, judgement, Answer(action, number, 0.05, why), START.timestamp())


@dataclass(frozen=True)
class Reply:
    """`location`: where a redirect leads."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def location(self) -> str:
        return self.headers["location"]


class Browser:
    """One connection to a console. Keeps cookies, sends forms with the token of the page that it saw last, follows nothing."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, 60)
        self.origin = f"http://127.0.0.1:{port}"
        self.cookies: dict[str, str] = {}
        self.token = ""

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.send("GET", path, b"", headers)

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Reply:
        """A form, with the token of the last page unless one is given."""
        body = urlencode({"csrf": self.token, **fields}).encode()
        kind = {"content_type": "application/x-www-form-urlencoded"}
        return await self.send("POST", path, body, {**kind, **headers})

    async def call(self, path: str, key: str, **fields: Any) -> Reply:
        """As a program."""
        how = {"x_api_key": key, "content_type": "application/json"}
        return await self.send("POST", path, json.dumps(fields).encode(), how)

    async def sign_in(self, key: str) -> Reply:
        await self.get("/sign-in")
        reply = await self.post("/sign-in", {"key": key})
        if reply.status == 303:
            await self.get("/")
        return reply

    async def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        return await asyncio.to_thread(self._send, method, path, body, headers)

    def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        sent = {"accept": "text/html", **{n.replace("_", "-"): v for n, v in headers.items()}}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self._connection.request(method, path, body or None, sent)
        found = self._connection.getresponse()
        for value in found.headers.get_all("set-cookie") or ():
            for cookie in SimpleCookie(value).values():
                self.cookies[cookie.key] = cookie.value
                if cookie["max-age"] == "0":
                    del self.cookies[cookie.key]
        reply = Reply(found.status, dict(found.getheaders()), found.read())
        marked = reply.text.partition('name="csrf" value="')[2] if b'name="csrf"' in reply.body else ""
        self.token = marked.partition('"')[0] or self.token
        return reply

    def close(self) -> None:
        self._connection.close()


async def drift(name: str) -> Panel:
    """A section that another part of monitoring would bring."""
    rows = (
        PanelRow("distance", "PSI 0.31", "noise would be below 0.02", 0.9, "bad"),
        PanelRow("hour", "PSI 0.01", "", 0.05, "good"),
    )
    return Panel("Drift of inputs", f"1 of 24 columns of {name} has drifted.", rows, "bad", {"columns": 24})


def minutes(count: float) -> float:
    """In seconds."""
    return 60 * count
