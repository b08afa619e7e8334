"""`python -m tests.slow`: the slow tests, a pytest process for each file, with a line in `tests/LEDGER.jsonl` after each.

It goes on where it was stopped: what has a line of the revision `SINCE` or of a later one (`tests/ledger.py`) is not run again.
A process ends between two tests after 20 minutes, and the rest of its file has another; after 30 minutes it is ended.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests import ledger
from tests.descendants import Descendants
from tests.ledger import ROOT, SINCE, Result, Row
from tests.slow_results import FILE, SECONDS

WORK = ROOT / ".headrace" / "slow"
LAST_TEST_BEGINS_S = 20 * 60
ENDED_S = 30 * 60
# Program → its package of Debian. What else a test lacks, it says when it is skipped.
PROGRAMS = {
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "dnsmasq": "dnsmasq-base",
    "faketime": "faketime",
    "ip": "iproute2",
    "kubectl": "kubectl",
    "kustomize": "kustomize",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "pg_ctlcluster": "postgresql",
    "podman": "podman",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "redis-server": "redis-server",
    "runc": "runc",
    "softhsm2-util": "softhsm2",
    "strip": "binutils",
}


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 if all that was to be run passed, or was skipped for a reason that tests/skips.py allows."""
    parser = argparse.ArgumentParser(prog="python -m tests.slow", description=__doc__)
    parser.add_argument("--only", default="tests", metavar="PATH", help="a folder, a file or a test")
    parser.add_argument("--since", default=SINCE, metavar="REV", help="from where on results count")
    parser.add_argument("--failed", action="store_true", help="again what failed")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="what is left, with the seconds that it took last")
    what.add_argument(
        "--check", action="store_true", help="whether each slow test has a result that proves it"
    )
    options = parser.parse_args(arguments)
    tests = collected(options.only)
    last = ledger.results(ledger.counted(ledger.read(), options.since))
    if options.check:
        return check(tests, last)
    left = remaining(tests, last, failed=options.failed)
    print(f"{len(left)} of {len(tests)} slow tests to run; {_expected(left)}", flush=True)
    if options.list:
        return listed(left)
    return run(left)


def collected(path: str) -> list[str]:
    """Ids of the slow tests. Exits if one file can't be collected."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "slow", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(
            f"{done.stdout[-3000:]}{done.stderr[-3000:]}\nno tests to run: `{' '.join(command[1:])}` failed"
        )
    return [line for line in done.stdout.splitlines() if re.match(r"\S+\.py::", line)]


def remaining(tests: Sequence[str], last: Mapping[str, Result], *, failed: bool) -> list[str]:
    """What has no result yet, or was skipped for want of something; with `failed`, what failed."""
    if failed:
        return [test for test in tests if test in last and last[test].outcome == "failed"]
    return [
        test
        for test in tests
        if test not in last or not (last[test].proves or last[test].outcome == "failed")
    ]


def check(tests: Sequence[str], last: Mapping[str, Result]) -> int:
    missing = [f"{test}: no result" for test in tests if test not in last]
    bad = [f"{t}: {last[t].outcome}: {last[t].why}" for t in tests if t in last and not last[t].proves]
    print(
        "\n".join(
            [
                *missing,
                *bad,
                f"{len(tests)} slow tests: {len(missing)} without a result, {len(bad)} not proven",
            ]
        )
    )
    return 1 if missing or bad else 0


def listed(left: Sequence[str]) -> int:
    took = ledger.durations(ledger.read())
    for test in left:
        print(f"{took[test]:>8.1f} s  {test}" if test in took else f"{'?':>8} s  {test}")
    return 0


def _expected(tests: Sequence[str]) -> str:
    took = ledger.durations(ledger.read())
    known = [took[test] for test in tests if test in took]
    return f"about {sum(known) / 60:.0f} min, and {len(tests) - len(known)} that never passed"


def run(left: list[str]) -> int:
    _install()
    number, outcomes = len(left), dict.fromkeys(("passed", "failed", "skipped"), 0)
    while left:
        file = left[0].partition("::")[0]
        of_file = [test for test in left if test.startswith(f"{file}::")]
        print(
            f"\n[{number - len(left)} of {number}] {file}: {len(of_file)}; {_expected(of_file)}", flush=True
        )
        row, stopped = run_file(file, of_file)
        if row.revision.endswith(ledger.CHANGED):
            print("  not in tests/LEDGER.jsonl: the checkout is changed, or was while this ran", flush=True)
        elif len(row):
            ledger.append(row)
        if stopped:
            print("stopped: what has ended is in tests/LEDGER.jsonl; the same command goes on", flush=True)
            return 130
        for outcome in outcomes:
            outcomes[outcome] += len(getattr(row, outcome))
        ended = {f"{file}::{name}" for name in (*row.passed, *row.failed, *row.skipped)}
        left = [test for test in left if test not in ended]
    print(
        f"\n{', '.join(f'{count} {outcome}' for outcome, count in outcomes.items())}; commit tests/LEDGER.jsonl"
    )
    if outcomes["failed"]:
        print("next: mend, then `.venv/bin/python -m tests.slow --failed`")
    return 1 if outcomes["failed"] else 0


def run_file(file: str, tests: Sequence[str]) -> tuple[Row, bool]:
    """The line of one pytest process, of at least one test unless a signal stopped it (True)."""
    WORK.mkdir(parents=True, exist_ok=True)
    log, progress = WORK / f"{file.replace('/', '.')}.log", Progress(WORK / "results.jsonl")
    row = Row(
        ledger.revision(), datetime.now(UTC).isoformat(timespec="seconds"), file, seed=random.getrandbits(31)
    )
    command = [sys.executable, "-m", "pytest", "-v", "-p", "tests.slow_results", "-m", "slow"]
    environment = {
        "HEADRACE_TESTS_HOME": str(ROOT / ".headrace" / "tests-slow"),
        "HEADRACE_TESTS_PREPARED": str(ROOT / ".headrace" / "tests-prepared"),
        **os.environ,
        FILE: str(progress.path),
        SECONDS: str(LAST_TEST_BEGINS_S),
    }
    begin, started = time.monotonic(), Descendants()
    with log.open("w") as output:
        command += [f"--hypothesis-seed={row.seed}", *tests]
        code = started.run(command, ROOT, environment, output, ENDED_S, progress.read)
    row.left = started.end_rest()
    row.wall_s, row.cpu_s = round(time.monotonic() - begin, 1), round(started.cpu_s, 1)
    if ledger.revision() != row.revision:
        row.revision = row.revision.removesuffix(ledger.CHANGED) + ledger.CHANGED
    progress.read()
    progress.fill(row)
    if not started.stopped:
        row.failed |= {
            test.partition("::")[
                2
            ]: f"{'ended by the limit' if started.limited else f'pytest: exit code {code}'}, see {log}"
            for test in progress.cut(tests, limited=started.limited)
        }
    for process in row.left:
        print(f"  left behind: {process}")
    return row, started.stopped


class Progress:
    """What the plugin writes, printed as it comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("")
        self._begun: list[str] = []
        self._ended: dict[str, dict[str, Any]] = {}
        self._read = 0

    def read(self) -> None:
        whole = b"".join(self.path.read_bytes().rpartition(b"\n")[:2])
        for text in whole[self._read :].splitlines():
            line = json.loads(text)
            if "started" in line:
                self._begun.append(line["started"])
            else:
                self._ended[line["test"]] = line
                name, why = line["test"].partition("::")[2], f": {line['why']}" if line["why"] else ""
                print(
                    f"  {datetime.now(UTC):%H:%M} {line['outcome']} {line['seconds']:.1f} s {name}{why}",
                    flush=True,
                )
        self._read = len(whole)

    def fill(self, row: Row) -> None:
        for test, line in self._ended.items():
            value = round(line["seconds"], 1) if line["outcome"] == "passed" else line["why"]
            getattr(row, line["outcome"])[test.partition("::")[2]] = value

    def cut(self, tests: Sequence[str], *, limited: bool) -> list[str]:
        """The tests that failed as the process ended in them. At the limit: only one that had all the time."""
        if not self._begun:
            return list(tests)
        return [t for t in self._begun if t not in self._ended and not (limited and self._ended)]


def _install() -> None:
    """Installs the missing programs by apt where that is possible; names them where it is not."""
    missing = {program: package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if missing and shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (("update",), ("install", "-y", "--no-install-recommends", *missing.values())):
            subprocess.run(
                ["apt-get", "-qq", *command], env=environment, check=False, stdout=subprocess.DEVNULL
            )
        missing = {program: package for program, package in missing.items() if shutil.which(program) is None}
    for program, package in missing.items():
        print(f"missing: {program} (apt-get install {package}); its tests will say so")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
