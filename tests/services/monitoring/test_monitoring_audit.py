"""The keeper of the audit log: it follows the journals, stands by, goes on after a full disk, and has witnesses sign."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from headrace.audit import verify
from headrace.audit.notes import WITNESS, ensure_keys
from headrace.audit.settings import Audit, AuditSettings, WitnessSettings
from headrace.state import chain
from services.monitoring.audit.keeper import AuditKeeper
from services.monitoring.audit.metrics import AuditMetrics
from tests.disks import fill, tiny_disk
from tests.libs.audit.audit_authority import authority
from tests.services.monitoring.monitoring_outcomes import Log
from tests.services.waiting import until


@dataclass
class Kept:
    """A keeper that runs."""

    audit: Audit
    registry: CollectorRegistry

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"headrace_audit_{name}", labels) or 0.0

    def covered(self) -> int:
        """Entries that a checkpoint covers."""
        return int(self.metric("entries") - self.metric("uncovered_entries"))

    def loaded(self, count: int = 1) -> None:
        assert self.audit.settings.models is not None
        for _ in range(count):
            chain.append(self.audit.settings.models, {"event": "loaded"})


def settings(folder: Path, keys: Path, **more: object) -> AuditSettings:
    private, public = keys / "audit.key", keys / "audit.pub"
    ensure_keys(private, public, "headrace.test/audit")
    places = {name: keys / f"{name}.jsonl" for name in ("models", "releases", "security")}
    made = {
        "folder": folder,
        "key": private,
        "public_key": public,
        "poll_s": 0.01,
        "checkpoint_s": 0.01,
        **places,
    }
    return AuditSettings.model_validate({**made, **more})


@asynccontextmanager
async def kept(of: AuditSettings) -> AsyncIterator[Kept]:
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))

    registry = CollectorRegistry()
    keeper = AuditKeeper(Audit(of), AuditMetrics(registry), Log(), time.monotonic, sleep)
    task = asyncio.create_task(keeper.run())
    try:
        yield Kept(Audit(of), registry)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def holds(audit: Audit) -> bool:
    report = verify(audit.log, audit.verifier(), journals=audit.journals, payloads=audit.payloads)
    assert report.holds, report.findings
    return True


async def test_what_services_write_is_signed_soon(tmp_path: Path) -> None:
    async with kept(settings(tmp_path / "audit", tmp_path)) as keeper:
        keeper.loaded(300)
        await until(lambda: keeper.covered() == 300)
        assert (keeper.metric("leads"), keeper.metric("failing"), keeper.metric("gaps")) == (1, 0, 0)
        assert holds(keeper.audit)
    assert keeper.metric("leads") == 0


async def test_another_process_stands_by_and_takes_over(tmp_path: Path) -> None:
    of = settings(tmp_path / "audit", tmp_path)
    async with kept(of) as second:
        await until(lambda: second.metric("leads"))
        async with kept(of) as first:
            first.loaded()
            await until(lambda: second.covered() == 1)
            assert first.metric("leads") + second.metric("leads") == 1
    async with kept(of) as third:
        third.loaded()
        await until(lambda: third.covered() == 2)
        assert holds(third.audit)


async def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with tiny_disk(disk):
        async with kept(settings(disk / "audit", tmp_path)) as keeper:
            keeper.loaded()
            await until(lambda: keeper.covered() == 1)
            filler = fill(disk, "filler")
            keeper.loaded(5)  # on another disk: what services do is not held up
            await until(lambda: keeper.metric("failing"))
            filler.unlink()
            await until(lambda: keeper.covered() == 6 and not keeper.metric("failing"))
            assert holds(keeper.audit)


async def test_a_damaged_log_is_not_written_on_until_it_is_mended(tmp_path: Path) -> None:
    of = settings(tmp_path / "audit", tmp_path)
    async with kept(of) as keeper:
        keeper.loaded()
        await until(lambda: keeper.covered() == 1)
    checkpoint = tmp_path / "audit/log/checkpoint"
    before = checkpoint.read_bytes()
    checkpoint.write_bytes(before.replace(b"1", b"2"))
    async with kept(of) as keeper:
        keeper.loaded()
        await until(lambda: keeper.metric("failing"))
        checkpoint.write_bytes(before)
        await until(lambda: keeper.covered() == 2 and not keeper.metric("failing"))


async def test_a_journal_that_can_not_be_read_holds_up_no_other(tmp_path: Path) -> None:
    (tmp_path / "releases.jsonl").mkdir()
    async with kept(settings(tmp_path / "audit", tmp_path)) as keeper:
        keeper.loaded()
        await until(lambda: keeper.metric("entries") == 1 and keeper.metric("failing"))
        (tmp_path / "releases.jsonl").rmdir()
        await until(lambda: keeper.covered() == 1 and not keeper.metric("failing"))


async def test_witnesses_sign_and_their_refusal_is_an_alarm(tmp_path: Path) -> None:
    private, public = tmp_path / "w.key", tmp_path / "w.pub"
    ensure_keys(private, public, "headrace.test/second", WITNESS)
    good = WitnessSettings(folder=tmp_path / "second", signer=private, key=public)
    gone = WitnessSettings(url="http://127.0.0.1:9", key=public)
    # Named first, as nothing is asked before it.
    keyless = WitnessSettings(url="http://127.0.0.1:9", key=tmp_path / "absent")
    of = settings(tmp_path / "audit", tmp_path, witnesses={"bad": keyless, "good": good, "gone": gone})
    async with kept(of) as keeper:
        keeper.loaded(3)
        await until(lambda: keeper.covered() == 3)
        await until(lambda: (last := keeper.audit.witnesses()[1].last()) and last.size == 3)
        await until(lambda: keeper.metric("witness_unreachable", witness="bad"))
        await until(lambda: keeper.metric("witness_unreachable", witness="gone"))
        assert not keeper.metric("witness_refused", witness="good")
    (tmp_path / "audit" / "log").rename(tmp_path / "hidden")
    (tmp_path / "audit" / "places.json").unlink()
    (tmp_path / "models.jsonl").unlink()
    async with kept(of) as keeper:
        keeper.loaded()
        await until(lambda: keeper.metric("witness_refused", witness="good"))


async def test_an_authority_that_is_away_or_wrong_is_said_and_asked_again(tmp_path: Path) -> None:
    with authority(tmp_path / "tsa") as tsa:
        tsa.status = 500
        stamped = WitnessSettings(timestamp_url=tsa.url, timestamp_s=1e-9, key=tsa.roots)
        of = settings(tmp_path / "audit", tmp_path, witnesses={"tsa": stamped})
        async with kept(of) as keeper:
            keeper.loaded()
            await until(lambda: keeper.metric("witness_unreachable", witness="tsa"))
            keeper.loaded()
            await until(lambda: keeper.covered() == 2)  # the log goes on
            assert not keeper.metric("failing")
            tsa.answer = b"nonsense"
            tsa.status = 200
            asked = tsa.asked
            await until(lambda: tsa.asked >= asked + 2)
            assert keeper.metric("witness_unreachable", witness="tsa")
            assert not keeper.metric("witness_refused", witness="tsa")
            tsa.answer = None
            [client] = keeper.audit.witnesses()
            await until(lambda: not keeper.metric("witness_unreachable", witness="tsa"))
            await until(lambda: (last := client.last()) and last.size == 2)
