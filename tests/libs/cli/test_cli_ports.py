"""Ports: stable while they are free, moved when someone took them, never given twice."""

import shutil
import socket
import subprocess
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli.installation import layout, ports
from tests.system import COMMAND_S, HEADRACE, PREPARED, ROOT

NAMES = sorted(ports.wanted())


@given(
    st.dictionaries(st.sampled_from(NAMES), st.integers(8000, 8100)),
    st.sets(st.integers(8000, 10_000), max_size=200),
)
def test_chosen_ports_are_free_distinct_and_kept(saved: dict[str, int], taken: set[int]) -> None:
    def free(port: int) -> bool:
        return port not in taken

    first = ports.choose(ports.wanted(), saved, free)

    assert list(first) == list(ports.wanted())
    assert len(set(first.values())) == len(first)
    assert not taken & set(first.values())
    for name, port in saved.items():
        if free(port) and list(saved.values()).count(port) == 1:
            assert first[name] == port
    assert ports.choose(ports.wanted(), first, free) == first


def test_none_free_is_an_error() -> None:
    with pytest.raises(LookupError, match="no free TCP port"):
        ports.choose({"http": 32760}, {}, lambda _: False)


def test_a_listener_takes_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.free(port)
    assert ports.free(port)


def test_a_process_about_to_start_leaves_taken_ports_of_its_slot_alone() -> None:
    chosen = ports.choose(ports.wanted(), {}, lambda _: True)
    taken = {chosen["admin.ingress.1"], chosen["metrics.ingress.0"]}

    secured = ports.secured(chosen, "ingress", 1, lambda port: port not in taken)

    changed = {name for name, port in secured.items() if chosen[name] != port}
    assert changed == {"admin.ingress.1"}
    assert len(set(secured.values())) == len(secured)


def test_two_installations_never_share_a_door(tmp_path: Path) -> None:
    first, held = ports.claim(tmp_path / "first.json")
    try:
        assert not ports.free(first["http"])
        with pytest.raises(OSError, match="in use"):
            ports.hold(first["http"])
        # Envoy's way to listen is open: one door now, its successor beside it.
        doors = [socket.create_server(("127.0.0.1", first["http"]), reuse_port=True) for _ in range(2)]
        second, more = ports.claim(tmp_path / "second.json")
        assert not {first["http"], first["tls"]} & {second["http"], second["tls"]}
        for opened in (*doors, *more):
            opened.close()
    finally:
        for holding in held:
            holding.close()
    again, held = ports.claim(tmp_path / "first.json")
    assert again["http"] == first["http"]
    for holding in held:
        holding.close()


def test_installations_that_choose_at_once_share_no_port(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def claimed(number: int) -> tuple[dict[str, int], list[socket.socket]]:
        together.wait(30)
        return ports.claim(tmp_path / f"{number}.json")

    with ThreadPoolExecutor(4) as threads, ExitStack() as stack:
        chosen: list[int] = []
        for found, held in threads.map(claimed, range(4)):
            chosen += found.values()
            for holding in held:
                stack.enter_context(holding)
    # Nobody listens on most of them yet.
    assert len(set(chosen)) == len(chosen) == 4 * len(ports.wanted())


@pytest.mark.slow
def test_two_homes_that_are_started_at_once_both_come_up(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("one", "other")]
    for home in homes:
        if PREPARED is not None and PREPARED.exists():
            shutil.copytree(PREPARED, home)
    try:
        starting = [
            subprocess.Popen(
                [str(HEADRACE), "up", "--together", "--home", str(home)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for home in homes
        ]
        for process in starting:
            said, _ = process.communicate(timeout=COMMAND_S)
            assert process.returncode == 0, said
            assert "A prediction through Envoy" in said
        chosen = [ports.load(layout.of(home).ports) for home in homes]
        assert not set(chosen[0].values()) & set(chosen[1].values())
        for home, found in zip(homes, chosen, strict=True):
            key = layout.of(home).operator_key.read_text().strip()
            url = f"http://127.0.0.1:{found[ports.CONSOLE]}/index.json"
            with urllib.request.urlopen(urllib.request.Request(url, headers={"x-api-key": key})) as reply:
                assert reply.status == 200
    finally:
        for home in homes:
            subprocess.run(
                [str(HEADRACE), "down", "--home", str(home)], cwd=ROOT, check=False, timeout=COMMAND_S
            )


@pytest.mark.parametrize("text", ["", "[]", "{", '{"http": "x"}', '{"http": 70000}'])
def test_a_damaged_file_is_no_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    assert ports.load(tmp_path / "ports.json") == {}


def test_saved_ports_are_loaded(tmp_path: Path) -> None:
    ports.save(tmp_path / "ports.json", {"http": 8080})
    assert ports.load(tmp_path / "ports.json") == {"http": 8080}
