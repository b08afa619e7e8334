"""`make check`: runs the static checks at the same time, and prints each one's time, and the output of those that fail."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PACKAGES = ("services", "libs", "load", "tests", "deploy", ".ci")
# The contracts that callers have, as an image made by `buf build`. A change that would break a caller of these fails the check. A
# change that would not must be added to the image by `make contracts`, so that the next change is compared with it too; a
# breaking one, on purpose, by `make contracts BREAKING=yes`.
CONTRACTS = "protos/contracts.binpb"
CHECKS: dict[str, tuple[str, ...]] = {
    "types": ("mypy",),
    "import rules": ("lint-imports",),
    "lint": ("ruff", "check", "-q", *PACKAGES),
    "format": ("ruff", "format", "-q", "--check", *PACKAGES),
    "contracts: lint": ("buf", "lint"),
    "contracts: format": ("buf", "format", "--diff", "--exit-code"),
    "contracts: no breaking change": ("buf", "breaking", "--against", CONTRACTS),
}


def main() -> int:
    """Exit code: 0 if every check passes."""
    failed: list[str] = []
    threads = [
        threading.Thread(target=_check, args=(name, command, failed)) for name, command in CHECKS.items()
    ]
    threads.append(threading.Thread(target=_current, args=(failed,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        print(f"failed: {', '.join(sorted(failed))}")
    return 1 if failed else 0


def _check(name: str, command: tuple[str, ...], failed: list[str]) -> None:
    begin = time.monotonic()
    done = _run(*command)
    ok = done.returncode == 0
    if not ok:
        failed.append(name)
    print(f"{time.monotonic() - begin:5.1f} s  {'ok    ' if ok else 'FAILED'}  {name}", flush=True)
    if not ok:
        print((done.stdout + done.stderr).decode(), flush=True)


def _current(failed: list[str]) -> None:
    """The image holds what the contracts say today."""
    built = _run("buf", "build", "--exclude-source-info", "-o", "-")
    if built.stdout != (ROOT / CONTRACTS).read_bytes():
        failed.append("contracts: image is current")
        print(f"  {CONTRACTS} is not what protos/ says: run `make contracts`", flush=True)


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(BIN / program), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False)  # noqa: S603  # the commands above


if __name__ == "__main__":
    sys.exit(main())
