"""A line that a power loss cut off is torn, not altered: it is named, and the journal goes on after it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.installation import layout
from headrace.cli.installation.audit import audit_place
from headrace.cli.main import app
from headrace.delivery.records import Records
from headrace.delivery.records import read as deployments
from headrace.repository import AccessLog
from headrace.state import chain, security, torn
from tests.libs.audit.audit_logs import NOON, Home, texts
from tests.libs.cli.test_cli_audit import collect

Write = Callable[[Home, int], None]
JOURNALS: dict[str, Write] = {
    "models": lambda home, number: home.loaded(number),
    "releases": lambda home, number: home.released(number),
    "audit": lambda home, number: home.access.record("read", f"ann {number}"),
    "security": lambda home, number: security.append(home.security, b'{"kind":"denied","n":%d}\n' % number),
}


def cut(path: Path, left: int) -> int:
    """Leaves so many bytes of the last line; returns how many it has, without a newline."""
    content = path.read_bytes()
    begin = content.rfind(b"\n", 0, -1) + 1
    path.write_bytes(content[: begin + left])
    return len(content) - begin - 1


def named(home: Home) -> list[str]:
    """The torn lines as a report of the log names them; it holds."""
    report = home.verify()
    assert report.holds, texts(report)
    return [f"{f.where}: {f.text}" for f in report.torn]


def cut_and_go_on(home: Home, name: str, left: int, *, collected: bool) -> None:
    path, write = next(j.path for j in home.journals if j.name == name), JOURNALS[name]
    for number in (1, 2):
        write(home, number)
    if collected:
        home.collect()
    write(home, 3)
    if collected:
        home.collect()
    at = path.read_bytes().rfind(b"\n", 0, -1) + 1
    cut(path, left)
    where = f"journal {name}: {path}, line 3 (byte {at}): a write was cut off"
    home.collect()
    assert [where in text for text in named(home)] == [True]
    write(home, 4)
    assert [where in text for text in named(home)] == [True]
    home.collect()
    assert [where in text for text in named(home)] == [True]
    assert home.collect() == 0
    assert home.verify().records[name] == 4


def test_a_chain_goes_on_after_a_line_that_was_cut_off_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for number in (1, 2):
        chain.append(path, {"event": "loaded", "number": number})
    length = cut(path, 20)
    whole = 0
    # The last line, at every byte; then the line that goes on after a torn one, with its mark.
    while whole < 2:
        for left in range(1, length + 1):
            before = path.read_bytes()
            begin = before.rfind(b"\n") + 1
            chain.append(path, {"event": "loaded", "number": 3})
            [*_, line] = chain.entries(path)
            assert line["number"] == 3
            assert (torn.lines(path)[-1].at, torn.lines(path)[-1].content) == (begin, before[begin:])
            after = path.read_bytes()
            path.write_bytes(before[:begin] + after[begin : begin + left + 1])
            if not path.read_bytes().endswith(b"\n"):
                assert [e["number"] for e in chain.entries(path)] == [1]
        length, whole = len(after) - begin - 1, whole + 1


@pytest.mark.parametrize("collected", [False, True])
@pytest.mark.parametrize("name", JOURNALS)
def test_the_log_of_a_torn_journal_holds_and_names_the_line(
    tmp_path: Path, name: str, collected: bool
) -> None:
    home = Home(tmp_path / "probe")
    JOURNALS[name](home, 3)
    length = cut(next(j.path for j in home.journals if j.name == name), 1)
    for left in {1, 2, length // 2, length - 1, length}:
        cut_and_go_on(Home(tmp_path / str(left)), name, left, collected=collected)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda lines: [lines[0], lines[1][:20] + b"\n", lines[2]], id="cut in the middle"),
        pytest.param(lambda lines: [lines[0], lines[1], lines[2][:20] + b"\n"], id="with a newline"),
        pytest.param(
            lambda lines: [lines[0], lines[1][:20] + b'\x1e{"torn": true, "previous": ""}\n', lines[2]],
            id="with a mark of its own",
        ),
        pytest.param(
            lambda lines: [
                lines[0],
                lines[1][:20] + b"\x1e" + chain.linked({"torn": True}, chain.hash_of(lines[0][:-1])) + b"\n",
                lines[2],
            ],
            id="with a mark that fits",
        ),
        pytest.param(lambda lines: [lines[0], lines[1], b"{other"], id="another text at the end"),
    ],
)
def test_other_damage_is_still_tampering(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    home = Home(tmp_path)
    home.loaded(1, 2, 3)
    home.collect()
    home.models.write_bytes(b"".join(change(home.models.read_bytes().splitlines(keepends=True))))
    assert not home.verify().holds


def test_deployments_go_on_after_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "deployments.jsonl"
    records = Records(path, lambda: NOON)
    for version in ("1", "2"):
        records.began(version, "home", {}, committed_at="", author="ann", restored=False)
    cut(path, 50)
    assert [d.version for d in deployments(path)] == ["1"]
    records.began("3", "home", {}, committed_at="", author="ann", restored=False)
    assert [d.version for d in deployments(path)] == ["1", "3"]


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--home", str(home)], catch_exceptions=False)


def test_the_commands_name_a_torn_line(tmp_path: Path) -> None:
    at = layout.of(tmp_path / "home")
    at.make_home()
    audit_place.ensure(at)
    log = AccessLog(at.model_log, "executor")
    log.record("added", "light", "1")
    log.record("loaded", "light", "1")
    collect(at.home)
    begin = at.model_log.read_bytes().index(b"\n") + 1
    cut(at.model_log, 30)
    for _ in range(2):
        result = run(at.home, "audit", "verify")
        said = " ".join(result.output.split())
        assert (result.exit_code, "the audit log holds" in said) == (0, True)
        assert f"torn: journal models: {at.model_log}, line 2 (byte {begin})" in said
        [line] = json.loads(run(at.home, "status", "--json").stdout)["torn_lines"]
        assert f"torn: journal models: {at.model_log}, line 2 (byte {begin})" in line
        log.record("loaded", "light", "2")
    told = json.loads(run(at.home, "audit", "verify", "--json").stdout)
    assert [found["where"] for found in told["torn"]] == ["journal models"]
