"""Programs that come from apt, and the tests that need them."""

import os
import shutil

import pytest


def needs_program(name: str) -> pytest.MarkDecorator:
    """Skips by name where an apt program is absent; where HEADRACE_TESTS_REQUIRE_ALL is set (CI) the test fails instead."""
    absent = shutil.which(name) is None and not os.environ.get("HEADRACE_TESTS_REQUIRE_ALL")
    return pytest.mark.skipif(absent, reason=f"{name} is not installed (apt-get install {name})")
