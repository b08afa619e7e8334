"""End-to-end tests that are bound to one home, and why: those of tests/pipeline that are not here also run against machines."""

from __future__ import annotations

_COMMANDS = "uses `headrace` commands, which work on a home"
_FILES = "reads files of the home"
_SETTINGS = "starts services with other settings by `headrace restart`"

# A file, or one test of it → the reason.
BOUND = {
    "test_backups.py": _COMMANDS,
    "test_cost.py": _FILES,
    "test_drift_named.py": _COMMANDS,
    "test_events.py": _FILES,
    "test_explanations.py": _COMMANDS,
    "test_first_request.py::test_seven_processes_or_one": "asks the supervisor",
    "test_freshness.py": _SETTINGS,
    "test_live_dashboards.py": "scrapes the ports that a home's supervisor names",
    "test_log_lines.py": _SETTINGS,
    "test_model_repository.py": _COMMANDS,
    "test_moderation_tampering.py": "changes files of the home's model repository",
    "test_observed.py": "scrapes the ports that a home's supervisor names",
    "test_otlp.py": _SETTINGS,
    "test_outcomes.py": _COMMANDS,
    "test_own_model.py": _COMMANDS,
    "test_recomputed.py": "reads and changes the features in the home's SQLite",
    "test_release_commands.py": _COMMANDS,
    "test_rollouts.py": _COMMANDS,
    "test_sdk_traces.py": _COMMANDS,
    "test_shadow.py": _FILES,
    "test_status.py": "asks the supervisor",
    "test_tenants.py": _COMMANDS,
    "test_tokens.py": _SETTINGS,
}


def why_bound(file: str, test: str) -> str:
    """The reason; "" if the test may run against machines. `test`: without its parameters."""
    return BOUND.get(file, "") or BOUND.get(f"{file}::{test}", "")
