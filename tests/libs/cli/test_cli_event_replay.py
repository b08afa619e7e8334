"""`headrace events replay`, as a person types it: events of a real monitoring service against real models."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from headrace.api.monitoring.v1 import facts_pb2 as pb
from headrace.cli.installation import control_place, layout
from headrace.columns import Batch, Column, Rows
from headrace.events import EventGroup, GroupHeader, Mask, event_ids, messages
from headrace.hop.call import methods_of
from headrace.hop.errors import Code, Reason
from headrace.hop.testing import served
from headrace.pipeline import ModelUse
from headrace.releases import LIVE
from headrace.repository import Repository
from services.monitoring.wiring import SERVICE
from tests.libs.cli.replay_home import typed

[REPORT] = methods_of(pb.DESCRIPTOR.services_by_name["FactsService"])
# The distance of 1.0 from the next number: too little to change 2.0.
BIT = 2.0**-23
FAILED = int(Code.UNAVAILABLE), int(Reason.REASON_OVERLOADED)


class Events:
    """Makes events of what release 1 of `home` answered."""

    def __init__(self, home: Path) -> None:
        place = layout.of(home)
        with closing(control_place.releases(place)) as store:
            self.arm = store.history("scored")[-1].arms[LIVE]
        about = Repository(place.models).metadata("times", "1")
        self.models = (ModelUse("sum", "times", "1", about.sha256),)
        self.made = 0

    def group(
        self,
        name: str,
        xs: Sequence[float],
        scores: Sequence[float | None],
        *,
        off: float = 0.0,
        failed: Sequence[int] = (),
        **header: Any,
    ) -> EventGroup:
        """One request `name`. `off`: added to each answer; `failed`: rows that got no answer."""
        count, first = len(xs), self.made + 1
        rows = Rows([name] * count, ["t"] * count, [1] * count, [0.0] * count, [""] * count)
        there = np.array([s is not None for s in scores])
        score, x = np.array([s or 0.0 for s in scores]), np.array(xs, np.float32)
        y = np.stack([x, np.where(there, score, -1.0).astype(np.float32)], axis=1) * np.float32(2.0)
        self.made += count
        codes, reasons = np.zeros(count, np.uint8), np.zeros(count, np.uint16)
        codes[list(failed)], reasons[list(failed)] = FAILED
        times = np.full(count, int(time.time() * 1e6))
        columns = [
            event_ids(times, np.ones(count, np.int64), np.arange(first, first + count)),
            Column.of("@sequence", np.arange(first, first + count)),
            Column.of("@time_us", times),
            Column.of("@row", np.arange(count, dtype=np.uint32)),
            Column.of("@code", codes),
            Column.of("@reason", reasons),
            Column.of("@latency_us", np.ones(count, np.int64)),
            Column.of("@busy_us", np.ones(count, np.int64)),
            Column.of("@cached", np.zeros(count, bool)),
            Mask(b"s" * 32).column(Column.of_text("key", ["someone"] * count)),
            Column.of("x", x),
            Column.of("score", score, there),
            Column.of("@age_us/user", np.where(there, 5, -1)),
            Column.of("@source/user", np.where(there, 1, 2).astype(np.uint8)),
            Column.of("y", y + np.float32(off)),
        ]
        given = GroupHeader(
            "scored",
            3,
            self.arm.revision,
            LIVE,
            1,
            models=self.models,
            inputs=("key", "x"),
            features=("score",),
            outputs=("y",),
            masked=("key",),
        )
        return EventGroup(replace(given, **header), Batch.of(rows, columns))


def typed_with(home: Path, groups: Sequence[EventGroup], *options: str) -> Result:
    """A replay of these events, which a monitoring service of the home has."""
    place = layout.of(home).listed("monitoring")
    place.mkdir(parents=True, exist_ok=True)
    socket, count = place / "m.sock", sum(map(len, groups))

    async def serve() -> Result:
        async with served(
            SERVICE, {"events": {"files": str(home / "kept" / str(time.monotonic_ns()))}}
        ) as run:
            socket.symlink_to(run.target.removeprefix("unix:"))
            try:
                sent = pb.ReportRequest(events=messages.write("router-1", 7, count, groups))
                deadline = asyncio.get_running_loop().time() + 60
                reply = await run.client().unary(REPORT)(sent, deadline=deadline)
                assert reply.events.stored_count == count
                # The command has an event loop of its own.
                return await asyncio.to_thread(typed, "events", "replay", "--home", home, *options)
            finally:
                socket.unlink()

    return asyncio.run(serve())


def replayed(home: Path, groups: Sequence[EventGroup], *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of a replay of these events."""
    result = typed_with(home, groups, "--json", *options)
    try:
        return result.exit_code, json.loads(result.stdout)
    except ValueError:
        return result.exit_code, {"said": " ".join(result.output.split())}


@pytest.fixture
def home(replay_home: Path) -> Path:
    return replay_home


@pytest.fixture
def events(home: Path) -> Events:
    return Events(home)


def counts(report: dict[str, Any]) -> tuple[int, int, int, int]:
    return tuple(report[n] for n in ("events", "equal", "differing", "not_replayable"))


def test_events_come_out_equal_with_the_feature_values_that_they_got(home: Path, events: Events) -> None:
    """There is no store of features in this home at all; the input with personal data is only read by features stages."""
    groups = [events.group("a", [1.0, 2.5, 0.1], [0.3, None, 7.0]), events.group("b", [9.0], [1.0])]
    code, report = replayed(home, groups, "--tolerance", "0")
    assert (code, counts(report)) == (0, (4, 4, 0, 0))
    [compared] = report["compared"]
    assert (compared["release"], compared["arm"], compared["events"]) == (1, "live", 4)
    assert compared["models"] == {"times": {"then": ["1"], "now": ["1"]}}
    assert compared["outputs"]["y"]["max"] == 0.0


def test_differences_are_named_beyond_the_stated_tolerance(home: Path, events: Events) -> None:
    groups = [
        events.group("within", [1.0], [0.5], off=BIT),
        events.group("beyond", [1.0, 2.0], [0.5, 0.5], off=0.25),
    ]
    code, report = replayed(home, groups)
    assert (code, counts(report)) == (1, (3, 1, 2, 0))
    [compared] = report["compared"]
    assert compared["tolerance"] == {"absolute": 1e-4, "relative": 1e-3}
    assert sorted(d["prediction_id"] for d in compared["differences"]) == ["beyond/0", "beyond/1"]
    assert compared["outputs"]["y"]["max"] == pytest.approx(0.25)
    assert counts(replayed(home, groups, "--tolerance", "0")[1]) == (3, 0, 3, 0)
    assert counts(replayed(home, groups, "--id", "beyond/1")[1]) == (1, 0, 1, 0)
    assert counts(replayed(home, groups, "--id", "beyond")[1]) == (2, 0, 2, 0)
    assert counts(replayed(home, groups, "--since", "1h", "--limit", "2")[1])[0] == 2
    assert "no such events" in replayed(home, groups, "--pipeline", "other")[1]["said"]


def test_the_report_says_how_much_differs_and_shows_the_worst(home: Path, events: Events) -> None:
    groups = [events.group("same", [1.0], [2.0]), events.group("bit", [2.0, 1.0], [0.5, 0.5], off=BIT)]
    result = typed_with(home, groups, "--tolerance", "0", "--show", "1")
    told = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "events 3 equal 1 differing 2 coverage 100.00% could be replayed not replayable 0 made by" in told
    assert "made by scored, release 1, arm live" in told
    assert "candidate scored, release 1, arm live, version 3 model times 1 verdict" in told
    assert "verdict 2 of 3 are not the same bit for bit" in told
    assert "y 33.33% 6.15% to 79.23% 1.19e-07 1.19e-07 1.19e-07 1.19e-07 " in told
    # The newest is the first.
    assert "bit/1 y [2.0, 1.0000001] [2.0, 1.0]" in told
    assert "bit/0" not in told


def test_a_candidate_is_another_version_or_release(home: Path, events: Events) -> None:
    groups = [events.group("a", [1.0, 2.0], [0.5, 0.5]), events.group("b", [1.0], [None])]
    code, report = replayed(home, groups, "--candidate", "times=2")
    assert (code, counts(report)) == (1, (3, 0, 3, 0))
    assert report["compared"][0]["models"]["times"] == {"then": ["1"], "now": ["2"]}
    code, report = replayed(home, groups, "--release", "2")
    assert counts(report) == (3, 0, 3, 0)
    # It refuses rows without values.
    assert report["compared"][0]["errors_changed"] == 1
    assert report["compared"][0]["candidate"] == "release 2, arm live"
    code, report = replayed(home, groups, "--candidate", "time=2")
    assert report["why_not"] == {"pipeline scored runs no model 'time'; did you mean 'times'?": 3}


def test_what_cannot_be_replayed_is_counted_and_said(home: Path, events: Events) -> None:
    gone = (replace(events.models[0], version="9"),)
    other = (replace(events.models[0], sha256="00" * 32),)
    groups = [
        events.group("good", [1.0], [0.5]),
        events.group("failed", [1.0, 2.0], [0.5, 0.5], failed=(1,)),
        events.group("x", [1.0], [0.5], masked=("key", "x")),
        events.group("large", [1.0], [0.5], inputs=("key",), omitted=("x",)),
        events.group("gone", [1.0], [0.5], models=gone),
        events.group("other", [1.0], [0.5], models=other),
        events.group("old", [1.0], [0.5], release=77),
        events.group("none", [1.0], [0.5], release=0),
        events.group("arm", [1.0], [0.5], arm="next"),
        events.group("document", [1.0], [0.5], revision="ab" * 32),
        events.group("nothing", [1.0], [0.5], outputs=()),
        events.group("feature", [1.0], [0.5], features=()),
    ]
    code, report = replayed(home, groups)
    assert (code, counts(report)) == (0, (13, 2, 0, 11))
    assert report["coverage"] == 2 / 13
    assert report["why_not"] == {
        "they had no answer: UNAVAILABLE OVERLOADED": 1,
        "the input 'x' is personal data, of which events have only a hash": 1,
        "the input 'x' is too large to be kept in events (`events.max_value_bytes` of the router)": 1,
        "version 9 of model times is not in the repository any more": 1,
        "version 1 of model times is another file now": 1,
        "release 77 of scored is not kept; there are: 2, 1": 1,
        "they were answered without a release, so it is not known what their document was": 1,
        "release 1 of scored has no arm 'next'; it has live": 1,
        "release 1 of scored has another document now": 1,
        "none of their outputs was kept": 1,
        "the pipeline that answered did not read the feature 'score'": 1,
    }
    # If nothing can be replayed, it is no success.
    code, report = replayed(home, [events.group("old", [1.0], [0.5], release=77)])
    assert (code, counts(report)) == (1, (1, 0, 0, 1))


def test_what_is_no_time_or_candidate_is_said(home: Path) -> None:
    for options, said in ((("--since", "soon"), "--since 'soon'"), (("--candidate", "times"), "NAME=VALUE")):
        result = typed("events", "replay", "--home", home, *options)
        assert (result.exit_code, said in result.output) == (2, True)
