"""`python -m tests.lanes`: all tests that CI runs, in three lanes at the same time, as they wait half of the time.

Each lane has a home, and so running systems, of its own. The groups are taken in order by whichever lane is free, so the lanes
end at about the same time on any machine. The first group makes its home from nothing; the other lanes copy what was prepared
there, so what needs no home comes first in them. The output of a group is shown when the group has ended.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SYSTEMS = ("tests/faults", "tests/pipeline", "tests/workers", "tests/fuzz")
_SERVICES = "tests/services"
_KILLED = "tests/faults/test_killed_services.py"
# What each group runs. `load check` of CI measures in the first lane's home, which the first group prepares. Tests of a whole
# system run in both shapes, so that a group for each shape starts each system once, as one group for both would.
GROUPS: dict[str, Sequence[str]] = {
    "pipeline": ("tests/pipeline", "-k", "not together"),
    "services": (_SERVICES,),
    "libraries": tuple(f"--ignore={folder}" for folder in (*SYSTEMS, _SERVICES)),
    "pipeline, together": ("tests/pipeline", "-k", "together"),
    "other faults": ("tests/faults", f"--ignore={_KILLED}"),
    "killed services": (_KILLED,),
    "workers, fuzz": ("tests/workers", "tests/fuzz"),
}
HOMES = (".headrace/tests", ".headrace/tests-beside", ".headrace/tests-third")
# A copy of what the first group prepared; `tests/system.py` makes and takes it.
PREPARED = ".headrace/tests-prepared"
_PROGRESS = re.compile(r"[.FEsxX]+ +\[ *(\d+)%\]")


def main(options: Sequence[str]) -> int:
    """Exit code: 0 if every group passes. `options`: for pytest."""
    waiting = list(GROUPS)
    failed: list[str] = []
    lock = threading.Lock()

    def work(home: str) -> None:
        while True:
            with lock:
                if not waiting:
                    return
                group = waiting.pop(0)
            began = time.monotonic()
            print(f"{group}: started\n", end="", flush=True)
            code, output = _pytest(group, [*options, *GROUPS[group]], home)
            took = f"{(time.monotonic() - began) / 60:.1f} min"
            with lock:
                print(f"\n{output}\n{group}: {'FAILED' if code else 'passed'}, {took}\n", flush=True)
                if code:
                    failed.append(group)

    lanes = [threading.Thread(target=work, args=(home,)) for home in HOMES]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    print(f"failed: {', '.join(failed)}" if failed else "all groups passed", flush=True)
    return 1 if failed else 0


def _pytest(group: str, arguments: Sequence[str], home: str) -> tuple[int, str]:
    """Exit code and output of pytest. How far it is, is printed at once: what `-q` writes at the end of each line of dots."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "--durations", "12", *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "HEADRACE_TESTS_HOME": home, "HEADRACE_TESTS_PREPARED": PREPARED},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            if done := _PROGRESS.fullmatch(line.rstrip()):
                print(f"{group}: {done[1]} %{', with failures' if set('FE') & set(line) else ''}", flush=True)
            else:
                lines.append(line)
    return process.returncode, "".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
