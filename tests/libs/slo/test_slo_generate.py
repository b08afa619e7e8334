"""The generated files: what is in them, what is refused, and that they are text that Prometheus can read."""

import re
from typing import Any

import pytest
import yaml

from headrace.hop.config import ConfigError, load
from headrace.pipeline import DocumentError
from headrace.slo import Maintenance, SloSettings, alert_names, generate
from headrace.slo.alertmanager import EXPLAINS
from headrace.slo.generate import ALERT_RULES, ALERTMANAGER, OBJECTIVE_RULES, PROMETHEUS
from headrace.slo.objectives import BUCKETS, slos
from headrace.slo.promql import paced
from services.ingress.reporting import metrics as door
from tests.libs.pipeline.pipeline_documents import parsed
from tests.libs.slo.slo_documents import PLACES, promising

BOTH = "{availability: 0.999, latency: {p: 0.99, ms: 100}}"


def made(text: str = BOTH, settings: SloSettings | None = None) -> dict[str, Any]:
    files = generate([promising(text)], settings or SloSettings(), PLACES)
    return {name: yaml.safe_load(content) for name, content in files.items()}


def rules(file: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for group in file["groups"] for rule in group["rules"]]


def test_each_promise_has_an_alert_of_each_level() -> None:
    found = [(r["alert"], r["labels"]["level"]) for r in rules(made()[OBJECTIVE_RULES]) if "alert" in r]
    levels = [level for name, level in found if name == "HeadraceAvailabilityBurn"]
    assert levels == ["14.4x", "6x", "2x", "3x", "1.1x", "1x"]
    assert len(found) == 12
    # They use only series that are recorded.
    all_rules = rules(made()[OBJECTIVE_RULES])
    recorded = {r["record"] for r in all_rules if "record" in r}
    used = {name for r in all_rules for name in re.findall(r"headrace_slo:\w+", r["expr"])}
    assert used <= recorded


def test_a_document_that_promises_nothing_has_the_starting_target() -> None:
    def targets(settings: SloSettings) -> list[str]:
        file = yaml.safe_load(generate([parsed()], settings, PLACES)[OBJECTIVE_RULES])
        return [r["expr"] for r in rules(file) if r.get("record") == "headrace_slo:target"]

    assert targets(SloSettings()) == ["vector(0.999)"]
    assert targets(SloSettings(default_availability=None)) == []


def test_a_promise_that_could_never_alert_makes_no_file() -> None:
    with pytest.raises(DocumentError, match=r"objectives\.availability: .*never fire"):
        generate([promising("{availability: 0.9}")], SloSettings(), PLACES)


def test_a_slow_answer_is_interpolated_between_the_bounds_of_the_histogram() -> None:
    (between,) = slos([promising("{latency: {p: 0.99, ms: 200}}")])
    assert re.findall(r"\* ([\d.]+)", between.bad(60)) == ["0.333333", "0.666667"]
    (at,) = slos([promising("{latency: {p: 0.99, ms: 250}}")])
    assert re.findall(r'le=~"([^"]+)"', at.bad(60)) == [r"0\\.25"]
    assert door._SECONDS == BUCKETS


def test_all_times_are_divided_by_the_pace() -> None:
    expression = "increase(a[10m]) > 0 and avg_over_time(b[4h] offset 166h)"
    assert paced(expression, 1, 60) == expression
    assert paced(expression, 60, 4) == "increase(a[10s]) > 0 and avg_over_time(b[4m] offset 166m)"
    assert paced("rate(a[1m])", 60, 4) == "rate(a[4s])"  # less holds no two samples
    assert rules(made(settings=SloSettings(pace=60))[ALERT_RULES])[0]["for"] == "1s"


def test_alerts_that_others_explain_are_silenced_by_them() -> None:
    inhibit = made()[ALERTMANAGER]["inhibit_rules"]
    source = 'alertname="HeadraceTargetDown"'
    (followers,) = [r["target_matchers"][0] for r in inhibit if r["source_matchers"] == [source]]
    assert "|BreakerOpen|" in followers
    named = [name for cause, explained in EXPLAINS.items() for name in (cause, *explained.split("|"))]
    assert {f"Headrace{name}" for name in named} <= set(alert_names())


def test_a_slower_level_is_silenced_by_a_faster_one_of_the_same_pipeline() -> None:
    assert {
        "source_matchers": ['alertname="HeadraceLatencyBurn"', 'speed="1"'],
        "target_matchers": ['alertname="HeadraceLatencyBurn"', 'speed=~"2|3|4|5|6"'],
        "equal": ["pipeline"],
    } in made()[ALERTMANAGER]["inhibit_rules"]


def test_who_is_told_is_in_the_settings() -> None:
    settings = SloSettings(
        page_webhook="http://pager/x",
        maintenance=(Maintenance(name="patch", weekdays=("sunday",), start="02:00", end="04:00"),),
    )
    file = made(settings=settings)[ALERTMANAGER]
    assert {r["name"]: r["webhook_configs"][0]["url"] for r in file["receivers"]} == {
        "page": "http://pager/x",
        "ticket": "http://pager/x",
    }
    assert [route["mute_time_intervals"] for route in file["route"]["routes"]] == [["patch"], ["patch"]]
    assert "webhook_configs" not in made()[ALERTMANAGER]["receivers"][0]


def test_prometheus_reads_the_rules_and_follows_the_services() -> None:
    file = made()[PROMETHEUS]
    assert file["rule_files"] == [f"/home/monitoring/{name}" for name in (OBJECTIVE_RULES, ALERT_RULES)]
    assert file["scrape_configs"][0]["file_sd_configs"] == [{"files": ["/home/run/prometheus.json"]}]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("min_bad: 0", r"slo.yaml, line 1, min_bad: .*greater than 0"),
        ("webhook: x", r"slo.yaml, line 1, webhook: "),
        ("maintenance: [{name: a, weekdays: [sunday], start: '04:00', end: '02:00'}]", "must be after"),
        ("maintenance: [{name: a, weekdays: [holiday], start: '01:00', end: '02:00'}]", "weekdays"),
    ],
)
def test_a_wrong_setting_names_file_line_and_key(tmp_path: Any, text: str, told: str) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        load(SloSettings, path, {})
