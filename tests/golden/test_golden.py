"""A public name that disappears or appears is seen: its golden file must be renewed, and what is gone named in CHANGELOG.md."""

import pytest

from tests.golden.names import KINDS, changes, unmentioned


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_those_of_the_golden_file(kind: str) -> None:
    gone, new = changes(kind)
    assert not gone + new, (
        f"{kind}: disappeared: {gone}; appeared: {new}. Renew by `.venv/bin/python -m tests.golden`, and name the change in"
        " CHANGELOG.md: a name that disappears must stand there"
    )


def test_what_is_gone_must_be_named_in_the_topmost_part_of_the_changelog() -> None:
    gone = [
        "headrace trace",
        "headrace trace --all",
        "headrace up --old",
        "router: tick_s",
        "headrace_x_total",
    ]
    changelog = "# Changelog\n\n## [b]\n- `headrace trace` and `cache.tick_s` are gone\n## [a]\n- `headrace_x_total`\n"
    assert unmentioned(gone, changelog) == ["headrace up --old", "router: tick_s", "headrace_x_total"]
    assert unmentioned(["router: tick_s"], "## [b]\n- no `tick_s`") == ["router: tick_s"]
    assert unmentioned(["router: tick_s"], "# C\n## [b]\n- no `tick_s`") == []
