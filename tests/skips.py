"""Where HEADRACE_TESTS_REQUIRE_ALL is set (CI), a test may skip only for a reason that is listed here.

CI installs everything that can be installed, so any other skip means that something is missing there. It fails the test.
"""

from __future__ import annotations

import os
import re

# A pattern of the skip's reason → why CI cannot do without this skip.
ALLOWED = {
    # No package brings it.
    r"no NVIDIA GPU|not installed: (tensorrt|onnxruntime-gpu)|there is a CUDA provider here": "CI has no GPU",
    r"mount": "a container may not be allowed to mount a file system",
    r"network devices": "a container may not be allowed to make network devices",
    r"ptrace": "a container may not be allowed to stop a thread of another process",
    r"kserve has no release for Python 3\.14": "its latest release says so",
    r"tritonserver is built for x86-64 Linux": "the only wheel there is",
    r"is not in this clone \(a shallow one\)": "a shallow clone has no older generation of the services to run",
    # The test says nothing about this parameter.
    r"a door in grpc mode has only gRPC": "the other protocols need the door inside Envoy",
    r"does one run at a time": "the backend has no second run to test",
    r"a stock Envoy resets the HTTP/2 stream": "our code never sees these headers there",
    r"grpcio waits for the rest of a frame": "grpcio reads the frames there",
    r"together, a service has no process of its own": "nothing to kill in this shape",
    r"apart, all workers have the same executors": "nothing to compare in this shape",
}


def required() -> bool:
    """Whether every test must run here."""
    return bool(os.environ.get("HEADRACE_TESTS_REQUIRE_ALL"))


def forbidden(reason: str) -> str:
    """Why this skip is a failure; empty if it may be."""
    if not required() or any(re.search(pattern, reason) for pattern in ALLOWED):
        return ""
    return (
        f"skipped: {reason}\nHEADRACE_TESTS_REQUIRE_ALL is set, so a test may skip only for a reason listed in "
        "tests/skips.py. Install what is missing."
    )
