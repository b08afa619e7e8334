"""Quotas of several processes: together they let through what one would, whoever of them is asked, comes, or dies."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.access.specs import QuotaSpec
from headrace.hop.errors import Fault
from services.ingress.admission.quotas import Quotas
from services.ingress.admission.shared_counters import SharedCounters
from services.ingress.documents.catalog import Tenant


def tenant(name: str = "a", **limits: float) -> Tenant:
    return Tenant(name, frozenset("*"), QuotaSpec.model_validate(limits), 1)


class Worker:
    """One process's quotas, under a clock that all workers of a test share."""

    def __init__(self, folder: Path, now: list[float]) -> None:
        self.shared = SharedCounters(folder)
        self.quotas = Quotas(lambda: now[0], self.shared)

    def passes(self, who: Tenant, rows: int = 1) -> bool:
        quota = self.quotas.acquire(who)
        try:
            quota.charge(rows, 1)
        except Fault:
            return False
        finally:
            quota.release()
        return True

    def look(self) -> None:
        self.quotas.look()


def workers(folder: Path, count: int, now: list[float]) -> list[Worker]:
    made = [Worker(folder, now) for _ in range(count)]
    look(*made)
    return made


def look(*all_of_them: Worker) -> None:
    for worker in all_of_them:
        worker.look()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    rate=st.floats(1, 1000),
    burst=st.floats(1, 50),
    steps=st.lists(st.tuples(st.floats(0, 0.25), st.integers(0, 2)), min_size=1, max_size=150),
)
def test_all_pass_at_most_what_one_would(
    tmp_path_factory: pytest.TempPathFactory, rate: float, burst: float, steps: list[tuple[float, int]]
) -> None:
    now, who = [0.0], tenant(rows_per_s=rate, rows_burst=burst)
    made = workers(tmp_path_factory.mktemp("quotas"), 3, now)
    try:
        for worker in made:
            assert worker.passes(who)  # each knows the tenant from now on
            for other in made:
                other.look()
        passed = len(made)
        for step, index in steps:
            now[0] += step
            passed += made[index].passes(who)
            for worker in made:
                worker.look()
            # Each may have let one through before it heard of the others.
            assert passed <= burst + rate * now[0] + len(made) + 1e-6
    finally:
        for worker in made:
            worker.shared.close()


def test_a_tenant_gets_its_whole_rate_from_one_of_them(tmp_path: Path) -> None:
    now, who = [0.0], tenant(rows_per_s=80, rows_burst=10)
    one, other = workers(tmp_path, 2, now)
    assert sum(one.passes(who) for _ in range(50)) == 10
    for _ in range(20):
        now[0] += 0.125
        look(one, other)
        assert sum(one.passes(who) for _ in range(50)) == 10


def test_what_is_in_flight_elsewhere_counts_until_its_process_ends(tmp_path: Path) -> None:
    now, who = [0.0], tenant(concurrency=2)
    one, other = workers(tmp_path, 2, now)
    first, _second = one.quotas.acquire(who), one.quotas.acquire(who)
    other.look()
    with pytest.raises(Fault, match="2 requests at once"):
        other.quotas.acquire(who)
    first.release()
    other.quotas.acquire(who)
    one.look()
    with pytest.raises(Fault):
        one.quotas.acquire(who)
    one.shared.close()
    other.look()
    other.quotas.acquire(who)


def test_a_killed_process_holds_no_places_and_leaves_no_file(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from services.ingress.admission.shared_counters import SharedCounters\n"
        "shared = SharedCounters(pathlib.Path(sys.argv[1])); counters = shared.counters('a')\n"
        "counters.begin(); counters.begin(); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as dying:
        assert dying.stdout is not None
        assert dying.stdout.readline() == b"held\n"
        [one] = workers(tmp_path, 1, [0.0])
        with pytest.raises(Fault):
            one.quotas.acquire(tenant(concurrency=2))
        dying.kill()
        dying.wait()
    one.look()
    one.quotas.acquire(tenant(concurrency=2))
    workers(tmp_path, 1, [0.0])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_limit_that_was_lowered_is_no_endless_debt(tmp_path: Path) -> None:
    now = [0.0]
    one, other = workers(tmp_path, 2, now)
    before, after = tenant(rows_per_s=1000, rows_burst=1000), tenant(rows_per_s=10, rows_burst=10)
    assert one.passes(before)
    assert other.passes(after)
    look(one, other)
    for _ in range(900):
        one.passes(before)  # it has not read the new document yet
    other.look()
    assert not other.passes(after)
    now[0] += 1.2
    assert other.passes(after)


def test_each_tenant_is_counted_by_itself(tmp_path: Path) -> None:
    one, other = workers(tmp_path, 2, [0.0])
    for name in ("a", "b" * 63):
        assert one.passes(tenant(name, rows_per_s=1, rows_burst=1))
        other.look()
        assert other.passes(tenant(name, rows_per_s=1, rows_burst=1))
        look(one, other)
        assert not one.passes(tenant(name, rows_per_s=1, rows_burst=1))
    assert one.passes(tenant("c", rows_per_s=1, rows_burst=1))


def test_what_one_large_request_took_elsewhere_is_owed_here_too(tmp_path: Path) -> None:
    now, who = [0.0], tenant(rows_per_s=10, rows_burst=10)
    one, other = workers(tmp_path, 2, now)
    assert other.passes(who)
    look(one, other)
    now[0] += 1
    assert one.passes(who, rows=100)  # 90 beyond the burst
    other.look()
    now[0] += 8.8
    assert not other.passes(who)
    now[0] += 0.4
    assert other.passes(who)


def test_bytes_are_counted_together(tmp_path: Path) -> None:
    now, who = [0.0], tenant(bytes_per_s=100, bytes_burst=1000)
    one, other = workers(tmp_path, 2, now)
    one.quotas.acquire(who).charge(1, 1)
    other.quotas.acquire(who).charge(1, 1)
    look(one, other)
    one.quotas.acquire(who).charge(1, 998)
    with pytest.raises(Fault, match="100 bytes per second"):
        other.quotas.acquire(who).charge(1, 10)


def test_a_folder_that_comes_later_is_counted_in_from_then_on(tmp_path: Path) -> None:
    now, who = [0.0], tenant(concurrency=1)
    [one] = workers(tmp_path, 1, now)
    alone = Quotas(lambda: now[0])
    alone.acquire(who)
    alone.share(SharedCounters(tmp_path))
    one.quotas.acquire(who)
    alone.look()
    with pytest.raises(Fault, match="1 requests at once"):
        alone.acquire(who)


def test_a_disk_without_room_is_an_error_at_once_and_kills_nobody_later(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        SharedCounters(small_disk / "quotas")
    assert list((small_disk / "quotas").iterdir()) == []
