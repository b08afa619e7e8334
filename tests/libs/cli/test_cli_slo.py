"""`headrace slo`, as a person types it: asking monitoring, or the Prometheus of the settings."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from headrace.cli.installation import layout
from headrace.cli.supervision import prometheus_targets
from tests.libs.cli.released_home import run
from tests.libs.cli.test_cli_cost import refused
from tests.services.monitoring.alerts.alert_replay import Monitoring, door
from tests.services.monitoring.monitoring_outcomes import facts_at
from tests.web_server import Answer, Request, web_server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    (tmp_path / "settings").mkdir()
    return tmp_path


def test_status_comes_from_monitoring_or_from_the_prometheus_of_the_settings(home: Path) -> None:
    refused(run(home, "slo", "status"), "monitoring does not run")
    (home / "run").mkdir(exist_ok=True)
    facts = facts_at(home / "facts")
    monitoring = Monitoring(facts)
    for minute in range(10):
        monitoring.now += 60
        monitoring.read({"door": door(100 * minute, 2 * minute)})
    pages: dict[str, Callable[[str], bytes]] = {
        "query": monitoring.watch.query,
        "alerts": lambda _: monitoring.watch.pending_and_firing(),
    }

    def answer(request: Request) -> Answer:
        path, _, query = request.path.rpartition("/")[2].partition("?")
        return 200, {}, pages[path](query)

    with closing(facts), web_server(answer) as url:
        prometheus_targets.write(layout.of(home).targets, {"monitoring": url.removeprefix("http://")})
        told = run(home, "slo", "status", "--json")
        (home / "settings/slo.yaml").write_text(f"prometheus: {url}\n")
        shown = run(home, "slo", "status")
    assert told.exit_code == shown.exit_code == 1
    [one] = json.loads(told.stdout)["objectives"]
    assert (one["pipeline"], one["state"]) == ("small", "broken")
    assert one["budget_left"] == pytest.approx(-19)
    assert {a["alertname"] for a in json.loads(told.stdout)["alerts"]} == {"HeadraceErrorBudgetBurn"}
    assert "page HeadraceErrorBudgetBurn" in shown.stdout


def test_what_can_t_be_silenced_says_why(home: Path) -> None:
    (home / "settings/slo.yaml").write_text("min_bad: 3\n")
    refused(run(home, "slo", "status"), "slo.yaml, line 1, min_bad")
    (home / "settings/slo.yaml").unlink()
    refused(run(home, "slo", "silence"), "names no alertmanager")
    refused(run(home, "slo", "silence", "--for", "soon"), "30m, 2h or 1d", code=2)
    refused(run(home, "slo", "silence", "--alert", "Nothing"), "there is no such alert", code=2)
