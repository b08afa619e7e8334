"""A test of `promtool test rules`, as our tests write them."""

from typing import Any

Series = dict[str, str]
# Alert → the labels by which its firing instances are told (for burn alerts: the level), per instant.
Expected = dict[str, dict[str, list[str]]]


def case(name: str, series: Series, expected: Expected, interval: str = "1m") -> dict[str, Any]:
    """A test of promtool: at each instant exactly these levels of these alerts fire."""
    return {
        "name": name,
        "interval": interval,
        "input_series": [{"series": s, "values": v} for s, v in series.items()],
        "alert_rule_test": [],
        "promql_expr_test": [
            {
                "expr": f'sort(count by (level) (ALERTS{{alertname="{alert}",alertstate="firing"}}))',
                "eval_time": at,
                "exp_samples": [
                    {"labels": f'{{level="{level}"}}' if level else "{}", "value": 1} for level in told
                ],
            }
            for alert, instants in expected.items()
            for at, told in instants.items()
        ],
    }
