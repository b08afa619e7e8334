"""A line that a power loss cut off is torn, not altered: it is named, and the file goes on after it. Full files are renamed."""

import json
from datetime import UTC, datetime
from pathlib import Path

from typer.testing import CliRunner

from headrace.cli.installation import layout
from headrace.cli.main import app
from headrace.repository import AccessLog
from headrace.state import json_lines

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def cut(path: Path, left: int) -> int:
    """Leaves so many bytes of the last line; returns how many it has, without a newline."""
    content = path.read_bytes()
    begin = content.rfind(b"\n", 0, -1) + 1
    path.write_bytes(content[: begin + left])
    return len(content) - begin - 1


def test_a_journal_goes_on_after_a_line_that_was_cut_off_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for number in (1, 2):
        json_lines.append_entry(path, {"event": "loaded", "number": number})
    length = cut(path, 20)
    # The last line, at every byte; then the line that goes on after a torn one, with its mark.
    for _ in range(2):
        for left in range(1, length + 1):
            before = path.read_bytes()
            begin = before.rfind(b"\n") + 1
            json_lines.append_entry(path, {"event": "loaded", "number": 3})
            [*_, line] = json_lines.entries(path)
            assert line["number"] == 3
            assert json_lines.torn_lines(path)[-1][1:] == (begin, before[begin:])
            after = path.read_bytes()
            path.write_bytes(before[:begin] + after[begin : begin + left + 1])
            if not path.read_bytes().endswith(b"\n"):
                assert [e["number"] for e in json_lines.entries(path)] == [1]
        length = len(after) - begin - 1


def test_status_names_a_torn_line(tmp_path: Path) -> None:
    at = layout.of(tmp_path / "home")
    at.make_home()
    log = AccessLog(at.model_log, "executor")
    log.record("refused", "light", "1")
    log.record("loaded", "light", "1")
    begin = at.model_log.read_bytes().index(b"\n") + 1
    cut(at.model_log, 30)
    for _ in range(2):
        result = CliRunner().invoke(app, ["status", "--json", "--home", str(at.home)], catch_exceptions=False)
        [line] = json.loads(result.stdout)["torn_lines"]
        assert f"torn: journal models: {at.model_log}, line 2 (byte {begin})" in line
        log.record("loaded", "light", "2")


def test_who_does_not_rotate_leaves_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "security.jsonl"
    json_lines.append_rotated(path, b"{}\n" * 100)
    json_lines.append_rotated(path, b"{}\n")
    assert not path.with_name("security.jsonl.1").exists()
    json_lines.append_rotated(path, b"{}\n", max_bytes=300, old=2)
    assert (path.read_bytes(), path.with_name("security.jsonl.1").stat().st_size) == (b"{}\n", 303)
