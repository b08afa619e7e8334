"""End-to-end tests that are bound to one home, and why: those of tests/pipeline that are not here also run against machines."""

_ALONE = "asks no running system"
_COMMANDS = "uses `headrace` commands, which work on a home"
_FILES = "reads files of the home"
_RESTARTED = "restarts a service by `headrace restart`"
_SETTINGS = "starts services with other settings by `headrace restart`"

# A file, or one test of it → the reason.
BOUND = {
    "test_backups.py": _COMMANDS,
    "test_cost.py": _COMMANDS,
    "test_events.py": _FILES,
    "test_explanations.py::test_a_prediction_is_explained_from_its_event": _COMMANDS,
    "test_first_request.py::test_a_changed_feature_changes_the_prediction": "changes features in the home's SQLite",
    "test_first_request.py::test_eight_processes_or_three": "asks the supervisor",
    "test_flights_cascade.py": _ALONE,
    "test_flights_features.py": _ALONE,
    "test_flights_models.py": _ALONE,
    "test_flights_parity.py": _ALONE,
    "test_live_dashboards.py": "scrapes the ports that a home's supervisor names",
    "test_log_lines.py": "follows a request through the one log of each service in the home",
    "test_model_repository.py": _COMMANDS,
    "test_moderation.py::test_document_and_model_say_what_the_package_says": _ALONE,
    "test_moderation.py::test_preparing_publishes_a_signed_model_once": _ALONE,
    "test_moderation_tampering.py": "changes files of the home's model repository",
    "test_observed.py::test_a_sampled_request_has_a_trace_across_all_services": _FILES,
    "test_observed.py::test_prometheus_follows_a_restart": _RESTARTED,
    "test_otlp.py": _SETTINGS,
    "test_outcomes.py::test_accuracy_is_told_with_its_coverage": _COMMANDS,
    "test_outcomes.py::test_outcomes_of_a_prediction_are_stored": _COMMANDS,
    "test_rollouts.py": _COMMANDS,
    "test_shadow.py": _COMMANDS,
    "test_tokens.py": _SETTINGS,
}


def why_bound(file: str, test: str) -> str:
    """The reason; "" if the test may run against machines. `test`: without its parameters."""
    return BOUND.get(file, "") or BOUND.get(f"{file}::{test}", "")
