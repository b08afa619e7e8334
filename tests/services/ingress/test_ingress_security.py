"""The security log: every event is counted in the file, however many there are, whoever else writes, whatever the disk does."""

import asyncio
import fcntl
import json
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.ingress.admission.quota_abuse import QuotaAbuse
from services.ingress.reporting.security_log import SecurityLog, client_address
from services.ingress.request_context import RequestContext, begin


def call(address: str = "10.0.0.1", **more: bytes) -> RequestContext:
    headers = {b"x-forwarded-for": address.encode(), b"x-request-id": b"r-1"}
    return begin("ModelInfer", headers | {k.encode(): v for k, v in more.items()}, 0.0, 0.0)


class Log:
    """A security log under a made-up clock."""

    def __init__(self, path: Path, max_bytes: int = 1 << 20, kept: int = 3) -> None:
        self.now = 1_800_000_000.0
        self.path = path
        self.complaints: list[BaseException | None] = []
        self.log = SecurityLog(path, lambda: self.now, self.complaints.append, max_bytes, kept)

    def lines(self) -> list[dict[str, Any]]:
        """Of all files, oldest first, without the salt that each has."""
        paths = sorted(self.path.parent.glob(f"{self.path.name}*"), reverse=True)
        found = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        assert all(len(line.pop("salt")) == 32 for line in found)
        return found

    def counted(self) -> Counter[str]:
        """Events in the file, those of summaries too."""
        return counted(self.lines())


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "security.jsonl")


def counted(lines: list[dict[str, Any]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in lines:
        found.update(line["events"] if line["kind"] == "summary" else [line["kind"]])
    return found


async def test_an_event_is_a_line_with_who_when_and_where(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit" / "security.jsonl")
    log.log.add("expired_credential", call("6.6.6.6, 10.1.2.3"), {"tenant": "acme", "key": "ab12"})
    await log.log.flush()
    assert log.lines() == [
        {
            "time": "2027-01-15T08:00:00.000Z",
            "kind": "expired_credential",
            "client": "10.1.2.3",
            "tenant": "acme",
            "key": "ab12",
            "request_id": "r-1",
            "method": "ModelInfer",
        }
    ]
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.path.parent.stat().st_mode) == 0o700


def test_what_a_caller_says_of_its_address_is_not_believed() -> None:
    assert client_address(call("6.6.6.6,127.0.0.1")) == "127.0.0.1"
    assert client_address(begin("ModelInfer", {}, 0.0, 0.0)) == ""


async def test_a_flood_is_a_line_a_second_and_every_event_is_counted(log: Log) -> None:
    seconds, each = 5, 3_000
    for second in range(seconds):
        for i in range(each):
            log.now += 1 / each
            log.log.add("unknown_key" if i % 3 else "bad_token", call(f"10.0.{second}.{i % 200}"), {})
        await log.log.flush()
    await log.log.close()
    lines = log.lines()
    summaries = [line for line in lines if line["kind"] == "summary"]
    assert log.counted() == {"unknown_key": seconds * 2_000, "bad_token": seconds * 1_000}
    assert seconds <= len(summaries) <= seconds + 1
    assert len(lines) < seconds * 60
    assert {s["since"][:19] for s in summaries} >= {s["time"][:19] for s in summaries}
    assert max(s["addresses"] for s in summaries) == 200


async def test_every_address_of_a_flood_is_in_the_file_and_it_hides_no_other_kind(tmp_path: Path) -> None:
    log, sent = Log(tmp_path / "security.jsonl"), Counter[tuple[str, str]]()
    for i in range(6_000):
        address, kind = f"10.0.{i % 5_000 >> 8}.{i & 255}", "denied" if i % 7 else "unknown_key"
        sent[address, kind] += 1
        log.log.add(kind, call(address), {})
    log.log.add("expired_credential", call(), {"tenant": "acme"})
    await log.log.close()
    assert [line["tenant"] for line in log.lines() if line["kind"] == "expired_credential"] == ["acme"]
    sent["10.0.0.1", "expired_credential"] = 1
    found = Counter[tuple[str, str]]()
    for line in log.lines():
        if line["kind"] != "summary":
            found[line["client"], line["kind"]] += 1
            continue
        assert not line["more_addresses"]
        assert len(json.dumps(line)) < 65_536
        for address, kinds in line["clients"].items():
            found.update({(address, kind): count for kind, count in kinds.items()})
    assert found == sent


async def test_addresses_are_bounded_while_nothing_can_be_written_and_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.state.security.WAITING", 51)
    log = Log(tmp_path / "security.jsonl")
    for i in range(5_000):
        log.log.add("unknown_key", call(f"10.0.{i >> 8}.{i & 255}"), {})
    await log.log.close()
    one, two = [line for line in log.lines() if line["kind"] == "summary"]
    assert (one["addresses"], one["more_addresses"], len(one["most"])) == (1_024, False, 10)
    assert (two["addresses"], two["more_addresses"]) == (1_024, True)
    assert log.counted() == {"unknown_key": 5_000}


async def test_only_so_many_old_files_are_kept(tmp_path: Path) -> None:
    log = Log(tmp_path / "security.jsonl", max_bytes=1, kept=3)
    for _ in range(9):
        log.now += 1
        log.log.add("denied", call(), {})
        await log.log.flush()
    numbers = ["", ".1", ".2", ".3"]
    assert sorted(p.name for p in tmp_path.glob("sec*")) == [f"security.jsonl{n}" for n in numbers]


async def test_processes_share_the_file_and_its_rotation(tmp_path: Path) -> None:
    path, each, writers = tmp_path / "security.jsonl", 300, 4
    script = (
        "import asyncio, sys, time\nfrom pathlib import Path\n"
        "from services.ingress.request_context import begin\nfrom services.ingress.reporting.security_log import SecurityLog\n"
        "async def main():\n"
        "    log = SecurityLog(Path(sys.argv[1]), time.time, print, 4000, 1000)\n"
        f"    for i in range({each}):\n"
        "        log.add('denied', begin('m', {}, 0.0, 0.0), {})\n"
        "        await log.flush()\n"
        "    await log.close()\n"
        "asyncio.run(main())\n"
    )
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(path)) for _ in range(writers)
    ]
    assert [await process.wait() for process in processes] == [0] * writers
    files = list(tmp_path.glob("security.jsonl*"))
    assert len(files) > 3
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert counted(lines) == {"denied": each * writers}


async def test_a_full_disk_loses_no_event_and_memory_stays_bounded(small_disk: Path) -> None:
    log = Log(small_disk / "security.jsonl")
    log.log.add("denied", call(), {})
    await log.log.flush()
    (small_disk / "fill").write_bytes(bytes((1024 - 8) * 1024))
    added = 1
    for _ in range(200):
        log.now += 1
        for _ in range(100):
            log.log.add("unknown_key", call(), {})
            added += 1
        await log.log.flush()
    assert [type(c) for c in log.complaints] == [OSError]
    assert len(log.log._events._lines) <= 2 * 2_000 + 2
    before = log.lines()
    assert all("kind" in line for line in before)  # no half line
    (small_disk / "fill").unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    await log.log.flush()
    assert log.complaints[1:] == [None]
    await log.log.close()
    assert log.counted().total() == added
    assert log.log.waiting == 0


async def test_a_process_that_stands_still_with_the_lock_holds_nobody_for_ever(log: Log) -> None:
    with (log.path.parent / ".security.jsonl.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log.log.add("denied", call(), {})
        await log.log.close()
        assert [type(c) for c in log.complaints] == [BlockingIOError, OSError]
        assert "1 events end with this process" in str(log.complaints[1])
    await log.log.flush()
    assert log.counted() == {"denied": 1}


async def test_who_stops_waiting_leaves_nothing_in_doubt(log: Log) -> None:
    for _ in range(20):
        log.now += 1
        log.log.add("denied", call(), {})
        task = asyncio.create_task(log.log.flush())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await log.log.close()
    assert log.counted() == {"denied": 20}


def test_quota_abuse_is_told_at_a_hundred_a_thousand_and_so_on_of_a_minute() -> None:
    now = [0.0]
    abuse = QuotaAbuse(lambda: now[0])
    assert [c for c in (abuse.refused("acme", 1) for _ in range(1_500)) if c] == [100, 1_000]
    assert abuse.refused("other", 99) == 0
    assert abuse.refused("other", 20_000) == 20_099  # many that Envoy refused
    assert abuse.refused("other", 1) == 0
    now[0] = 60.0
    assert [c for c in (abuse.refused("acme", 1) for _ in range(100)) if c] == [100]
