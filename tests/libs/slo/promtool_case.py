"""The cases of alert_cases.txt, which says how to read them, and as `promtool test rules` reads them."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("alert_cases.txt")


@dataclass
class Case:
    """`series`: with their values. `expected`: alert, instant, levels that fire ("": an alert without levels)."""

    name: str
    interval: str
    series: list[tuple[str, str]] = field(default_factory=list)
    expected: list[tuple[str, str, list[str]]] = field(default_factory=list)

    def promtool(self) -> dict[str, Any]:
        """At each instant exactly these levels of these alerts fire."""
        return {
            "name": self.name,
            "interval": self.interval,
            "input_series": [{"series": s, "values": v} for s, v in self.series],
            "promql_expr_test": [
                {
                    "expr": f'sort(count by (level) (ALERTS{{alertname="{alert}",alertstate="firing"}}))',
                    "eval_time": at,
                    "exp_samples": [
                        {"labels": f'{{level="{n}"}}' if n else "{}", "value": 1} for n in levels
                    ],
                }
                for alert, at, levels in self.expected
            ],
        }


def cases(section: str) -> list[Case]:
    """Those below `# section`."""
    (text,) = re.findall(rf"^# {section}$(.*?)(?=^# |\Z)", _FILE.read_text(), re.MULTILINE | re.DOTALL)
    found: list[Case] = []
    for line in text.strip().splitlines():
        name, _, rest = line.strip().rpartition(": ")
        if not line.startswith("  "):
            title = re.fullmatch(r"(.*?)(?: \(every (\w+)\))?", line)
            assert title is not None
            found.append(Case(title[1], title[2] or "1m"))
        elif re.fullmatch(r"[A-Z][A-Za-z ]+", name):
            instants = re.findall(r"(\w+)(?:(-)|=(\S+))?", rest)
            found[-1].expected += [
                (f"Headrace{alert}", at, [] if never else levels.split(","))
                for alert in name.split()
                for at, never, levels in instants
            ]
        else:
            found[-1].series.append((name, rest))
    return found
