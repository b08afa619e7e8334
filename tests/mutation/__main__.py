"""`make mutants`: changes one place of the code at a time and looks whether the tests of its package fail.

A process imports what is slow to import (not our code), then forks once for each mutant: the child compiles the changed
source in place of the file, so no copy of the tree is needed, and runs the package's fast tests (tests/fast.py) until one
fails. A mutant is killed if a test fails or the time is over.
"""

import argparse
import fnmatch
import importlib
import importlib.machinery
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GENERATOR = ROOT / ".venv" / "mutation" / "bin" / "python"
RESULTS = ROOT / ".venv" / "mutants.jsonl"
# What is mutated → the folders of its tests. In hop only the state machines; generate.py leaves the layers beside them.
PACKAGES = {
    "libs/headrace/hop/resilience/*.py": ("tests/libs/hop",),
    "libs/headrace/hop/batching/*.py": ("tests/libs/hop",),
    "libs/headrace/columns/*.py": ("tests/libs/columns",),
    "libs/headrace/pipeline/*.py": ("tests/libs/pipeline",),
}
# No state machines (tested over sockets), a protocol without code, and one that is to be deleted.
LEFT_OUT = {"codec", "coalesce", "health_check", "replicas", "resolve", "returning"}
# No plugin of pytest is among them: pytest warns that it cannot rewrite their asserts, and a warning is an error here.
PRELOADED: tuple[str, ...] = ("numpy", "grpc.aio", "pydantic", "yaml")
PRELOADED += (
    "google.protobuf.struct_pb2",
    "google.rpc.error_details_pb2",
    "prometheus_client",
    "structlog",
    "uvloop",
)
LIMIT_S = 90.0
MEMORY = 6 << 30
KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"
# Exit codes of pytest: all passed; a test failed; a test file could not be imported. Any other means that no test ran, which says
# nothing about the mutant.
OUTCOMES = {0: SURVIVED, 1: KILLED, 2: KILLED}


def files() -> list[str]:
    found = {path for pattern in PACKAGES for path in (ROOT / pattern).parent.rglob("*.py")}
    named = sorted(path.relative_to(ROOT) for path in found)
    return [
        str(path)
        for path in named
        if path.name != "__init__.py" and not ("hop" in path.parts and path.stem in LEFT_OUT)
    ]


def tests_of(file: str) -> list[str]:
    """The fast test files of its package; those that say its name come first."""
    from tests.fast import pure

    [folders] = [tests for pattern, tests in PACKAGES.items() if fnmatch.fnmatch(file, pattern)]
    found = [p for folder in folders for p in sorted((ROOT / folder).glob("test_*.py")) if pure(p)]
    word = re.compile(rf"\b{Path(file).stem}\b")
    names = {path: bool(word.search(path.read_text())) for path in found}
    if "hop" in file and any(names.values()):
        found = [path for path in found if names[path]]  # hop's test files have one subject each
    return [str(path) for path in sorted(found, key=lambda path: not names[path])]


def run_tests(mutant: dict[str, Any]) -> int:
    """In the child: pytest's exit code."""
    path = str(ROOT / mutant["file"])
    real = importlib.machinery.SourceFileLoader.get_code

    def get_code(loader: importlib.machinery.SourceFileLoader, name: str) -> Any:
        if loader.get_filename(name) == path:
            return compile(mutant["code"], path, "exec", dont_inherit=True)
        return real(loader, name)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]  # in the child alone
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    import pytest

    plugins = ("tests.fast", "tests.mutation.profile", "no:cacheprovider", "no:xdist")
    # pytest cannot rewrite the asserts of what is preloaded; nobody needs it to
    options = [
        "-x",
        "-q",
        *(f"-p{plugin}" for plugin in plugins),
        "-Wignore::pytest.PytestAssertRewriteWarning",
    ]
    return int(pytest.main([*options, *tests_of(mutant["file"])]))


def start(mutant: dict[str, Any], log: Path) -> int:
    child = os.fork()
    if child:
        return child
    os.setsid()
    with log.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    code = 70
    try:
        code = run_tests(mutant)
    except BaseException:  # noqa: BLE001  # a child of fork must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def judge(mutants: list[dict[str, Any]], processes: int, results: Path) -> None:
    """Runs them, `processes` at a time; a line with the outcome for each, as it ends."""
    waiting, running = list(reversed(mutants)), dict[int, tuple[dict[str, Any], float]]()
    done: Counter[str] = Counter()
    with results.open("a") as lines:
        while waiting or running:
            while waiting and len(running) < processes:
                mutant = waiting.pop()
                running[start(mutant, results.with_suffix(f".{len(waiting) % processes}.log"))] = (
                    mutant,
                    time.monotonic(),
                )
            for child, (mutant, begin) in list(running.items()):
                found, status = os.waitpid(child, os.WNOHANG)
                outcome = ""
                if found:
                    outcome = ended(mutant["file"], status)
                elif time.monotonic() - begin > LIMIT_S:
                    os.killpg(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    outcome = TIMEOUT
                if outcome:
                    del running[child]
                    done[outcome] += 1
                    seconds = round(time.monotonic() - begin, 1)
                    lines.write(json.dumps({**mutant, "outcome": outcome, "seconds": seconds}) + "\n")
                    lines.flush()
                    left = len(waiting) + len(running)
                    print(
                        f"{dict(done)}, {left} left: {outcome} {mutant['file']}:{mutant['line']} {mutant['operator']}",
                        flush=True,
                    )
            time.sleep(0.02)


def ended(file: str, status: int) -> str:
    """The outcome by how a child ended. Raises SystemExit if it says nothing about the mutant."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:  # by a signal: out of memory, or a crash that the mutant caused
        return KILLED
    if code not in OUTCOMES:
        raise SystemExit(
            f"error: the tests of {file} did not run (exit code {code}); see {RESULTS.with_suffix('')}.*.log"
        )
    return OUTCOMES[code]


def check_unchanged(changed: set[str]) -> None:
    """Raises SystemExit if the tests of a file fail without a mutant: each of its mutants would count as killed."""
    for file in sorted({tuple(tests_of(f)): f for f in changed}.values()):
        mutant = {"file": file, "code": (ROOT / file).read_text()}
        log = RESULTS.with_suffix(".unchanged.log")
        begin = time.monotonic()
        _, status = os.waitpid(start(mutant, log), 0)
        if ended(file, status) != SURVIVED:
            raise SystemExit(f"error: the tests of {file} fail without a mutant; see {log}")
        print(f"unchanged: {time.monotonic() - begin:.1f} s for the tests of {file}", flush=True)


def generated(seed: int, count: int) -> list[dict[str, Any]]:
    command = [str(GENERATOR), str(Path(__file__).with_name("generate.py")), str(seed), str(count), *files()]
    made = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in made.stdout.splitlines()]


def report(results: Path) -> None:
    """The share of killed mutants for each package, and the survivors with what was changed."""
    outcomes = [json.loads(line) for line in results.read_text().splitlines()]
    by_package: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for package in (str(Path(outcome["file"]).parent), "all"):
            by_package[package][outcome["outcome"]] += 1
    for outcome in outcomes:
        if outcome["outcome"] == SURVIVED:
            old, new = (ROOT / outcome["file"]).read_text().splitlines(), outcome["code"].splitlines()
            changed = [(a.strip(), b.strip()) for a, b in zip(old, new, strict=False) if a != b][:1]
            was, now = changed[0] if changed else ("", "(lines removed)")
            print(f"{outcome['file']}:{outcome['line']}\n    - {was}\n    + {now}")
    for package, counts in sorted(by_package.items()):
        killed = counts[KILLED] + counts[TIMEOUT]
        print(f"{killed / counts.total():6.1%} of {counts.total():4} killed  {package}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.mutation")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--count", type=int, default=420)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--survivors", action="store_true", help="only those that survived the last run, again"
    )
    parser.add_argument("--report", action="store_true", help="only the figures of the last run")
    given = parser.parse_args()
    if not given.report:
        if given.survivors:
            last = [json.loads(line) for line in RESULTS.read_text().splitlines()]
            mutants = [m for m in last if m["outcome"] == SURVIVED]
            kept = [m for m in last if m["outcome"] != SURVIVED]
            RESULTS.write_text("".join(json.dumps(m) + "\n" for m in kept))
        else:
            RESULTS.unlink(missing_ok=True)
            mutants = generated(given.seed, given.count)
        os.nice(10)
        sys.path[:0] = [str(ROOT / "libs"), str(ROOT)]
        for name in PRELOADED:
            importlib.import_module(name)
        check_unchanged({m["file"] for m in mutants})
        judge(mutants, given.processes, RESULTS)
    report(RESULTS)


if __name__ == "__main__":
    main()
