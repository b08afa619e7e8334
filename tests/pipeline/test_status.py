"""The other tests ask for the status without the command; it prints the same."""

import json

from tests.system import System, headrace


def test_the_command_prints_what_the_tests_go_by(system: System) -> None:
    printed = json.loads(headrace("status", "--json"))
    expected = system.status()
    assert printed.keys() == expected.keys()
    unchanging = ("shape", "endpoints", "ca_file", "demo_key", "prometheus_targets", "quarantined_pipelines")
    assert {key: printed[key] for key in unchanging} == {key: expected[key] for key in unchanging}
    pids = {name: service["pid"] for name, service in expected["services"].items()}
    assert {name: service["pid"] for name, service in printed["services"].items()} == pids
