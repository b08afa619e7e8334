"""`targets`: each target of issue 22, measured by the other commands, as the first page of load/RESULTS.md.

What a part finds is a line of the state file at once, with its revision and date; the table has the newest line of each part.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from load.systems.headrace import machine, revision

RUNS, SECONDS = 7, 1.5
BEGIN, END = "<!-- targets: begin, written by `python -m load targets` -->", "<!-- targets: end -->"
_DISTURBED = 0.2
_RACE = "race --peers {peers} --home {home} --runs {runs} --seconds {seconds}"
_ONE_LINE = f"{_RACE} --conc 64 --systems"
# By part: minutes at the default lengths, and the command.
PARTS = {
    "race": (
        12,
        f"{_RACE} --conc 1,8,16,64 --systems"
        " 'headrace together;headrace apart;ref_chain;ref_mono;triton;kserve'",
    ),
    "model": (3, f"{_ONE_LINE} 'headrace together;triton_batch;kserve' --part model"),
    "workers": (2, f"{_ONE_LINE} 'headrace together;headrace together, 2 workers'"),
    "calls": (1, "calls --home {home}"),
    "memory-together": (1, "memory --home {home} --shape together"),
    "memory-apart": (1, "memory --home {home} --shape apart"),
    "canary": (2, "canary --home {home} --pairs {runs} --seconds {double}"),
    "overload": (5, "overload --home {home} --seconds {long}"),
    "soak": (30, "soak --home {home} --minutes {minutes} --deadline-ms 1000 --disturb"),
}
# The bounds with the lane in C. What | before | part | `figure ≥ bound` or `figure ≤ bound`, or a figure without an aim; …
_ROWS = """
pipeline, c = 64, together: × Triton, × hand-written | 2.5, 1.7 | race | together 64 × triton ≥ 7; together 64 × ref_mono ≥ 4.5
the same, apart: × Triton, × naive chain | 1.8, 4.2 | race | apart 64 × triton ≥ 3.5; apart 64 × ref_chain ≥ 7.5
plain model, c = 64, together: × Triton, × KServe | 0.53, – | model | together 64 × triton_batch ≥ 1.5; together 64 × kserve ≥ 8
c = 8, together, apart: × the best peer | – | race | together 8 × best ≥ 1; apart 8 × best ≥ 1
c = 16, together, apart: × the best peer | – | race | together 16 × best ≥ 1; apart 16 × best ≥ 1
c = 1, together, apart: p50 ms | 1.91, 5.56 | race | together 1 p50 ≤ 1.2; apart 1 p50 ≤ 3.6
c = 1, together, apart: p99 ÷ p50 | 8–13 ms | race | together 1 p99 ÷ p50 ≤ 3; apart 1 p99 ÷ p50 ≤ 3
c = 64, together, apart: p99 ms | 31, 35 | race | together 64 p99 ≤ 15; apart 64 p99 ≤ 22
calls of Python, of C, each of 64 requests at once | 331, 379 | calls | 64 requests Python ≤ 120; 64 requests C ≤ 190
the same, one request alone | 2566, 2125 | calls | 1 row Python ≤ 1400; 1 row C ≤ 1400
loop's CPU in a request, c = 1: p99 ÷ median, longest ms | 6.5 ms, 13–24 | calls | loop p99 ÷ p50 ≤ 1.5; loop longest ≤ 3
overload 3 ×: goodput, part of the peak; late | 0.54–0.58, – | overload | goodput ≥ 0.9; late ≤ 0
overload 3 ×: a modest tenant's p99 × alone; refused p99 ms | 5.4, – | overload | modest_ratio ≤ 1.5; refused_p99_ms ≤ 10
memory after `up`, together: data plane, monitoring, MiB | 428 | memory-together | data plane ≤ 400; monitoring ≤ 130
the same, apart | 586 | memory-apart | data plane ≤ 540; monitoring ≤ 130
soak with cancels, restarts, swaps: minutes, lost, MiB an hour | 10, –, – | soak | minutes ≥ 30; lost ≤ 0; MiB an hour ≤ 1
5 % canary, c = 64: of the throughput without | 0.89 | canary | ratio ≥ 0.95
two workers, together, c = 64: × one | 0.68 | workers | together, 2 workers 64 × headrace together
"""
Records = Mapping[str, Mapping[str, Any]]


class Goal(NamedTuple):
    """A figure and its bound; `sign`: ≥ or ≤, or nothing without a bound."""

    figure: str
    sign: str
    bound: float

    @classmethod
    def of(cls, text: str) -> Goal:
        for sign in "≥≤":
            figure, found, bound = text.partition(f" {sign} ")
            if found:
                return cls(figure, sign, float(bound))
        return cls(text, "", 0.0)

    def met(self, value: float) -> bool:
        return value >= self.bound if self.sign == "≥" else value <= self.bound or not self.sign

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}" if self.sign else "–"


def run(options: argparse.Namespace) -> None:
    """Measures what is due, part after part, and writes the table. A part that fails is named; the others go on."""
    from load.__main__ import main  # which imports this

    due = [name for name in options.only if is_due(name, options, records(options.state))]
    began = time.monotonic()
    for i, name in enumerate(due, 1):
        minutes, command = PARTS[name]
        spent = f"{(time.monotonic() - began) / 60:.0f} min since the start"
        print(
            f"\n== {i} of {len(due)}: {name}, about {minutes} min at the default lengths; {spent}", flush=True
        )
        try:
            figures = main(shlex.split(command.format_map(lengths(options))))
        except (SystemExit, Exception) as error:  # noqa: BLE001 - the other parts are measured
            print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
            continue
        if figures:
            append(options, name, figures)
    text = "\n".join(table(records(options.state)))
    options.page.write_text(placed(options.page.read_text(), text))
    print(f"\n{text}\n\n{options.page} has it; {(time.monotonic() - began) / 60:.0f} min")


def is_due(name: str, options: argparse.Namespace, found: Records) -> bool:
    """Whether a part is measured: not if it resumes and this revision was measured for as long."""
    record = found.get(name, {"revision": ""})
    short = (
        record["revision"] != revision()
        or record["runs"] < options.runs
        or record["seconds"] < options.seconds
    )
    return (short or not options.resume) and (name != "soak" or options.soak_minutes > 0)


def lengths(options: argparse.Namespace) -> dict[str, object]:
    """What the commands of the parts are filled with."""
    seconds = {"double": 2 * options.seconds, "long": 5 * options.seconds, "minutes": options.soak_minutes}
    return {**vars(options), **seconds}


def append(options: argparse.Namespace, name: str, figures: Mapping[str, float]) -> None:
    """Adds what a part found to the state file."""
    about = {"part": name, "revision": revision(), "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}"}
    how = {"machine": machine(), "runs": options.runs, "seconds": options.seconds}
    options.state.parent.mkdir(parents=True, exist_ok=True)
    with options.state.open("a") as file:
        file.write(json.dumps(about | how | {"figures": figures}) + "\n")


def records(state: Path) -> dict[str, dict[str, Any]]:
    """The newest of each part; a line that was cut off does not count."""
    lines = state.read_text().splitlines() if state.exists() else []
    return {record["part"]: record for record in (json.loads(line) for line in lines if line.endswith("}}"))}


def table(found: Records) -> Iterator[str]:
    """The lines of the page between the markers."""
    machines = dict.fromkeys(record["machine"] for record in found.values())
    yield "| what | before | target | measured | | revision, date |\n|---|--:|--:|--:|---|---|"
    for line in _ROWS.strip().splitlines():
        what, before, part, goals = line.split(" | ")
        yield row(what, before, [Goal.of(goal) for goal in goals.split("; ")], found.get(part, {}))
    yield f"\n`~`: others used more than {_DISTURBED} cores; °: shorter than {RUNS} rounds of {SECONDS:g} s."
    yield f"Machine: {'; '.join(machines) or 'none yet'}."


def row(what: str, before: str, goals: list[Goal], record: Mapping[str, Any]) -> str:
    """A line: met if each of its figures is."""
    figures = record.get("figures", {})
    values = [figures.get(goal.figure, float("nan")) for goal in goals]
    known = all(value == value for value in values)
    said = ", ".join(f"{v:.0f}" if v >= 100 else f"{v:.3g}" for v in values) if known else "not measured"
    # `others`, or those of a point, as in `together 64 others`.
    starts = {key.removesuffix("others"): value for key, value in figures.items() if key.endswith("others")}
    others = [
        value for start, value in starts.items() if any(goal.figure.startswith(start) for goal in goals)
    ]
    marks = " ~" * (known and max(others, default=0.0) > _DISTURBED)
    marks += " °" * (known and (record["runs"] < RUNS or record["seconds"] < SECONDS))
    verdict = "met" if all(map(Goal.met, goals, values)) else "**short**"
    aimed = known and any(goal.sign for goal in goals)
    when = f"{record['revision']}, {record['date']}" if known else ""
    return f"| {what} | {before} | {', '.join(map(str, goals))} | {said}{marks} | {verdict if aimed else ''} | {when} |"


def placed(page: str, text: str) -> str:
    """The page with the text between its markers. Raises SystemExit if it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the page has no line {BEGIN} before a line {END}")
    return f"{before}{begin}\n{text}\n{end}{after}"
