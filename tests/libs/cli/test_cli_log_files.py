"""Logs, bounded while their writers go on and read from the end; traces, drawn as a tree."""

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from headrace.cli.commands.requests import span_tree
from headrace.cli.installation import layout, log_files
from headrace.cli.main import app
from headrace.state import traces
from tests.disks import fill, tiny_disk


def test_a_writer_goes_on_in_the_emptied_file(tmp_path: Path) -> None:
    path = tmp_path / "router.log"
    with path.open("ab", buffering=0) as writer:
        for number in range(5):
            writer.write(f"{number}".encode() * 100 + b"\n")
            assert log_files.rotate(path, max_bytes=100, kept=2)
        writer.write(b"last\n")
    assert not log_files.rotate(path, max_bytes=100, kept=2)
    assert path.read_bytes() == b"last\n"
    assert path.with_name("router.log.1").read_text() == "4" * 100 + "\n"
    assert path.with_name("router.log.2").read_text() == "3" * 100 + "\n"
    assert not path.with_name("router.log.3").exists()


@given(
    st.lists(st.text("ab", max_size=30), max_size=50), st.integers(1, 60), st.sampled_from([7, 64, 10_000])
)
def test_the_tail_is_the_last_lines(lines: list[str], count: int, block_bytes: int) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".log") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        assert log_files.tail(Path(file.name), count, block_bytes) == lines[-count:]


def test_without_room_for_a_copy_the_oldest_is_given_up_and_nothing_is_half_kept(tmp_path: Path) -> None:
    with tiny_disk(tmp_path):
        path, large = tmp_path / "router.log", 100_000
        for text in (b"1", b"2", b"3"):
            path.write_bytes(text * large)
            assert log_files.rotate(path, max_bytes=large - 1)
        path.write_bytes(b"4" * large)
        filler = fill(tmp_path, "filler")
        assert log_files.rotate(path, max_bytes=large - 1)
        assert path.stat().st_size == 0
        kept = [path.with_name(f"router.log.{n}").read_bytes()[:1] for n in (1, 2, 3)]
        assert kept == [b"4", b"3", b"2"]
        filler.unlink()
        for old in tmp_path.glob("router.log.*"):
            old.unlink()
        path.write_bytes(b"5" * large)
        fill(tmp_path, "filler")
        # No copy can be made, and none is half there; the log itself is kept as long as it may be so large.
        with pytest.raises(OSError, match="No space left"):
            log_files.rotate(path, max_bytes=large - 1)
        assert path.read_bytes() == b"5" * large
        assert {p.name for p in tmp_path.iterdir()} == {"router.log", "filler"}
        assert log_files.rotate(path, max_bytes=large // 2 - 1)
        assert path.stat().st_size == 0


def test_the_tail_of_one_process_begins_where_its_part_does(tmp_path: Path) -> None:
    path = tmp_path / "router.log"
    path.write_text("of the one before\n")
    begins = path.stat().st_size
    assert log_files.tail(path, 5, begins=begins) == []
    with path.open("a") as file:
        file.write("own\n")
    assert log_files.tail(path, 5, begins=begins) == ["own"]
    path.write_text("x\n")  # emptied since
    assert log_files.tail(path, 5, begins=begins) == ["x"]
    assert log_files.tail(tmp_path / "none.log", 5) == []
    assert not log_files.rotate(tmp_path / "none.log")


def span(name: str, parent: str, start: int, duration: int, **fields: Any) -> dict[str, Any]:
    base = {"name": name, "service": "router", "span_id": name, "parent_id": parent, "status": "OK"}
    return base | {"start_unix_us": start, "duration_us": duration, "attributes": {}} | fields


TRACE = {
    "request_id": "r-1",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "spans": [
        span("run", "light", 1_500, 400),
        span("Predict", "elsewhere", 1_000, 2_000, service="ingress"),
        span("light", "Predict", 1_400, 600, status="UNAVAILABLE", attributes={"model.name": "m"}),
        span("store", "Predict", 1_100, 200),
    ],
}


def drawn(trace: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=140).print(span_tree.draw(trace))
    return out.getvalue()


def test_a_trace_is_drawn_as_a_tree_in_order_of_time() -> None:
    order = [(depth, s["name"]) for depth, s in traces.ordered(TRACE["spans"])]  # type: ignore[arg-type] # mixed dict
    assert order == [(0, "Predict"), (1, "store"), (1, "light"), (2, "run")]
    text = drawn(TRACE)
    assert "request r-1" in text
    assert "2.000 ms" in text
    assert "UNAVAILABLE model.name=m" in text


def test_the_newest_trace_of_a_request_is_found_beside_broken_lines(tmp_path: Path) -> None:
    old, new = {**TRACE, "spans": []}, TRACE
    (tmp_path / "spans.jsonl.1").write_text(json.dumps(old) + "\n")
    (tmp_path / "spans.jsonl").write_text('{"request_id": "r-1", "spa\n' + json.dumps(new) + '\n{"r-1"\n')
    assert traces.find(tmp_path, "r-1") == TRACE
    assert traces.find(tmp_path, "0af7651916cd43dd8448eb211c80319c") == TRACE
    assert traces.find(tmp_path, "r") is None
    assert traces.find(tmp_path / "absent", "r-1") is None


def test_a_request_of_two_tenants_is_drawn_for_each(tmp_path: Path) -> None:
    at = layout.of(tmp_path)
    at.traces.mkdir(parents=True)
    lines = [
        json.dumps({**TRACE, "spans": [span("Predict", "", 0, took, attributes={"tenant": tenant})]})
        for tenant, took in (("acme", 1_000), ("globex", 2_000), ("acme", 3_000))
    ]
    (at.traces / "spans.jsonl").write_text("\n".join(lines) + "\n")
    result = CliRunner().invoke(app, ["trace", "r-1", "--home", str(tmp_path)], terminal_width=200)
    titles = [line.split("   ") for line in result.output.splitlines() if line.startswith("request r-1")]
    assert [(t[1], t[3].strip()) for t in titles] == [
        ("tenant acme", "3.000 ms"),
        ("tenant globex", "2.000 ms"),
    ]


NAMES = st.sampled_from("abcdefgh")


@given(st.lists(st.tuples(NAMES, NAMES, st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=12))
def test_every_span_is_drawn_once_whatever_its_parent(parts: list[tuple[str, str, int, int]]) -> None:
    spans = [span(*part) for part in parts]
    order = traces.ordered(spans)
    assert sorted(id(s) for _, s in order) == sorted(map(id, spans))
    drawn({"request_id": "x", "trace_id": "y", "spans": spans})
