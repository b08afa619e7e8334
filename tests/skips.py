"""Where HEADRACE_TESTS_REQUIRE_ALL is set (CI), a test may skip only for a reason that is listed here.

CI installs everything that can be installed, so any other skip means that something is missing there. It fails the test.
"""

import os
import re
import subprocess
import sys
from functools import cache

# A pattern of the skip's reason → why CI cannot do without this skip.
ALLOWED = {
    # No package brings it.
    r"no NVIDIA GPU|not installed: (tensorrt|onnxruntime-gpu)|there is a CUDA provider here": "CI has no GPU",
    r"kserve has no release for Python 3\.14": "its latest release says so",
    r"tritonserver is built for x86-64 Linux": "the only wheel there is",
    r"is not in this clone \(a shallow one\)": "a shallow clone has no older generation of the services to run",
    # The test says nothing about this parameter.
    r"does one run at a time": "the backend has no second run to test",
    r"together, a service has no process of its own": "nothing to kill in this shape",
    r"apart, all workers have the same executors": "nothing to compare in this shape",
}

_SEIZE = """
import ctypes, subprocess, sys
with subprocess.Popen(["sleep", "9"]) as child:
    done = ctypes.CDLL(None).ptrace(0x4206, child.pid, None, None)
    child.kill()
sys.exit(done != 0)
"""
_IMAGE = (
    "i=$(mktemp); truncate -s 4M $i; mkfs.ext4 -q $i && mount -o loop $i /mnt; code=$?; rm $i; exit $code"
)
# What a container may not be allowed to do: a pattern of the reason → what does it once. Where that works, the skip is a failure;
# the first pattern counts.
RIGHTS: dict[str, tuple[str, ...]] = {
    r"an image": ("unshare", "--mount", "sh", "-c", _IMAGE),
    r"mount": ("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"),
    r"network devices": ("unshare", "--net", "test", "-w", "/dev/net/tun"),
    r"ptrace": (sys.executable, "-c", _SEIZE),
}


@cache
def possible(command: tuple[str, ...]) -> bool:
    """Whether this machine allows it."""
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def allowed(reason: str) -> bool:
    """Whether CI may skip a test for this."""
    for pattern, command in RIGHTS.items():
        if re.search(pattern, reason):
            return not possible(command)
    return any(re.search(pattern, reason) for pattern in ALLOWED)


def required() -> bool:
    """Whether every test must run here."""
    return bool(os.environ.get("HEADRACE_TESTS_REQUIRE_ALL"))


def forbidden(reason: str) -> str:
    """Why this skip is a failure; empty if it may be."""
    if not required() or allowed(reason):
        return ""
    return (
        f"skipped: {reason}\nHEADRACE_TESTS_REQUIRE_ALL is set, so a test may skip only for a reason listed in "
        "tests/skips.py, and not for a right that this machine gives. Install what is missing."
    )
