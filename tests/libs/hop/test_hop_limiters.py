"""One registry says who refuses what, and every refusal names its limiter."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.hop import limiters
from headrace.hop.errors import BLAME, Blame, Code, Fault, Reason, reason_name
from headrace.hop.limiters import LIMITERS, Limiter
from headrace.hop.transport.wire_errors import fault_of_status, status_of

ROOT = Path(__file__).parents[3]
REGISTRY = ROOT / "libs/headrace/hop/limiters.py"
REASONS = {f"REASON_{reason_name(reason)}" for reason in limiters.REASONS}
# What makes an error of a reason.
ERRORS = {"Fault", "RowError", "QuotaFault"}


def sources() -> list[Path]:
    found = [*(ROOT / "libs/headrace").rglob("*.py"), *(ROOT / "services").rglob("*.py")]
    return [path for path in sorted(found) if path != REGISTRY and "headrace/api" not in str(path)]


def bare_refusals(source: str) -> Iterator[int]:
    """Lines that make an error with the reason of a limiter by hand."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ERRORS:
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(isinstance(a, ast.Attribute) and a.attr in REASONS for a in given):
                yield node.lineno


def test_refusals_are_made_by_a_limiter_alone() -> None:
    found = {str(p.relative_to(ROOT)): list(bare_refusals(p.read_text())) for p in sources()}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_a_refusal_made_by_hand_would_be_found() -> None:
    made = "raise Fault(Code.RESOURCE_EXHAUSTED, Reason.REASON_OVERLOADED, 'full')"
    assert list(bare_refusals(made)) == [1]
    assert list(bare_refusals("e = RowError(c, reason=errors_pb2.REASON_QUOTA_EXCEEDED, message='m')")) == [1]


def test_every_limiter_that_sends_metadata_is_used_and_stands_in_the_registry_alone() -> None:
    text = "\n".join(path.read_text() for path in sources())
    assert re.findall(r"(?<!class )\bLimiter\(\s*\"", text) == []
    constants = {v.name: k for k, v in vars(limiters).items() if isinstance(v, Limiter)}
    used = {name for name, constant in constants.items() if re.search(rf"\b{constant}\b", text)}
    assert used == {limiter.name for limiter in LIMITERS.values() if limiter.metadata_sent}


@pytest.mark.parametrize("limiter", LIMITERS.values(), ids=lambda limiter: limiter.name)
def test_an_entry_is_complete_and_its_refusal_crosses_hops(limiter: Limiter) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", limiter.name)
    assert limiter.reason in limiters.REASONS
    fault = limiter.refusal("full", retry_after_s=0.5, tenant="acme")
    arrived = crossed(fault)
    assert (arrived.code, arrived.reason, arrived.metadata) == (
        limiter.code,
        limiter.reason,
        {"limiter": limiter.name, "tenant": "acme"},
    )


def crossed(fault: Fault) -> Fault:
    """What the other side of a hop reads."""
    return fault_of_status(status_of(fault).SerializeToString(), {})


def test_the_table_for_people_says_all_of_each_limiter() -> None:
    page, answers = ROOT / "libs/headrace/hop/LIMITERS.md", []
    for row in (line for line in page.read_text().splitlines() if line.startswith("| `")):
        name, bounds, setting, file, answer, advice = row.strip("| ").split(" | ")
        assert all((bounds, setting, advice))
        assert (page.parent / file.rpartition("(")[2].rstrip(")")).exists()
        answers.append((name.strip("`"), answer))
    assert answers == [
        (n, f"{x.code.name} `{reason_name(x.reason)}`" if x.metadata_sent else "HTTP 503")
        for n, x in LIMITERS.items()
    ]


def test_a_new_limiter_needs_nothing_but_its_entry() -> None:
    dummy = Limiter("dummy", Code.UNAVAILABLE, Reason.REASON_OVERLOADED)
    assert crossed(dummy.refusal("closed")).metadata == {limiters.KEY: "dummy"}
    assert BLAME[dummy.reason] is Blame.OURS
