"""What a home has: secrets, made once, private, renewed in time; where things lie; ports: stable while they are free, moved
when someone took them, never given twice."""

import os
import shutil
import socket
import ssl
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_connection, create_server

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.access import changes
from headrace.access.specs import TenantSpec, hash_key
from headrace.cli.installation import certificates, layout, ports, secrets
from headrace.hop.config import ConfigError
from headrace.resources.manifest import public_of
from tests.live_access import BY, home_control
from tests.ports import free_port

NOW = datetime.now(UTC)
NAMES = sorted(ports.wanted())


def test_all_is_made_once_and_kept(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    assert secrets.ensure(place, NOW) == ["certificates", "control key"]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    assert secrets.ensure(place, NOW) == []

    assert {path: path.read_bytes() for path in before} == before
    for path in (place.control_key, place.events_salt, place.tls / "server.key", place.tls / "ca.key"):
        assert mode(path) == 0o600


def test_the_public_half_is_of_the_key_whatever_was_there(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    secrets.ensure(place, NOW)
    good = place.control_public_key.read_bytes()
    place.control_public_key.write_text("another")
    secrets.ensure(place, NOW)
    assert place.control_public_key.read_bytes() == good == public_of(place.control_key.read_bytes())
    place.control_key.write_text("no key")
    with pytest.raises(ConfigError, match=r"control\.key"):
        secrets.ensure(place, NOW)


def test_the_demo_key_opens_every_pipeline_and_operators_may_operate_alone(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    with home_control(place) as control:
        assert secrets.ensure_keys(place, control.records) == []
        access = changes.read(control.records)
        for path, name in ((place.demo_key, "demo"), (place.operator_key, "operator")):
            assert [k.hash for k in access.keys[name].values()] == [hash_key(path.read_text().strip())]
            assert mode(path) == 0o600
        assert access.tenants["demo"].pipelines == ("*",)
        operator = access.tenants["operator"]
        assert (operator.scopes, operator.pipelines) == (("operate",), ())
        # A lost key is made anew beside other tenants.
        control.put({"acme": TenantSpec(pipelines=("flights",))})
        changes.edit_tenant(control.records, "demo", lambda spec: TenantSpec(priority=3), BY)
        place.demo_key.unlink()
        assert secrets.ensure_keys(place, control.records) == ["demo key"]
        access = changes.read(control.records)
        assert set(access.tenants) == {"demo", "acme", "operator"}
        # What it may stays as somebody has set it.
        assert access.tenants["demo"] == TenantSpec(priority=3)
        assert len(access.keys["demo"]) == 2


def test_a_server_certificate_is_renewed_in_time_and_the_authority_stays(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, NOW)
    authority = (tmp_path / "ca.pem").read_bytes()
    server = (tmp_path / "server.pem").read_bytes()
    assert not certificates.ensure(tmp_path, NOW + timedelta(days=60))
    assert certificates.ensure(tmp_path, NOW + timedelta(days=80))
    assert (tmp_path / "ca.pem").read_bytes() == authority
    assert (tmp_path / "server.pem").read_bytes() != server


def test_a_client_that_trusts_the_authority_connects(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, NOW)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT

    def serve() -> None:
        for _ in ("localhost", "127.0.0.1"):
            connection, _address = listener.accept()
            with serving.wrap_socket(connection, server_side=True) as secure:
                secure.sendall(b"hello")

    with create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        for name in ("localhost", "127.0.0.1"):
            with (
                create_connection(listener.getsockname(), timeout=60) as plain,
                trusting.wrap_socket(plain, server_hostname=name) as secure,
            ):
                assert secure.recv(5) == b"hello"
        thread.join(60)


def test_a_deep_home_has_its_sockets_elsewhere_and_always_there(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 80)
    place, again = layout.of(deep), layout.of(deep)
    assert place.sockets == again.sockets
    assert place.sockets != layout.of(tmp_path / ("y" * 80)).sockets
    longest = place.listed("postprocessing") / place.starting("postprocessing", 999_999).name
    assert len(os.fsencode(longest)) + len(".frames") <= 107
    try:
        place.make()
        for folder in (place.sockets, place.sockets / "starting", place.listed("router")):
            assert mode(folder) == 0o700
    finally:
        shutil.rmtree(place.sockets, ignore_errors=True)


def test_a_link_in_place_of_a_socket_folder_is_refused(tmp_path: Path) -> None:
    place = layout.of(tmp_path / "home")
    place.run.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    place.sockets.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(layout.LayoutError, match="belongs to someone else"):
        place.make()


@pytest.mark.parametrize("make", [lambda place: place.make_home(), lambda place: place.make()])
def test_a_home_is_closed_to_others_whoever_made_it(
    tmp_path: Path, make: Callable[[layout.Layout], None]
) -> None:
    before = os.umask(0)
    try:
        fresh, there = layout.of(tmp_path / "deep" / "fresh"), layout.of(tmp_path / "there")
        there.tls.mkdir(parents=True)
        keys = (there.demo_key, there.model_key, there.control_key, there.tls / "server.key")
        for secret in (there.events_salt, *keys):
            secret.write_text("secret")
            assert mode(secret) == 0o666
        (there.tls / "server.pem").write_text("for everybody")
        for place in (fresh, there):
            make(place)
            assert mode(place.home) == 0o700
        assert {mode(p) for p in there.home.rglob("*") if p.is_file() and p.suffix != ".pem"} == {0o600}
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_that_belongs_to_everybody_is_no_home_and_stays_open(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(layout.LayoutError, match="for everybody"):
        layout.of(tmp_path).make()
    assert mode(tmp_path) == 0o1777


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


def test_a_process_about_to_start_leaves_taken_ports_of_its_slot_alone() -> None:
    chosen = ports.choose(ports.wanted(), {}, lambda _: True)
    taken = {chosen["admin.ingress.1"], chosen["metrics.ingress.0"]}

    secured = ports.secured(chosen, "ingress", 1, lambda port: port not in taken)

    changed = {name for name, port in secured.items() if chosen[name] != port}
    assert changed == {"admin.ingress.1"}
    assert len(set(secured.values())) == len(secured)
    with pytest.raises(LookupError, match="no free TCP port"):
        ports.choose({"http": 32760}, {}, lambda _: False)


def test_looking_for_a_free_port_is_not_in_the_way_of_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    # Who listens meanwhile would be in the way of another one.
    monkeypatch.setattr(socket.socket, "listen", None)
    assert ports.free(port)


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


@pytest.mark.parametrize("text", ["", "[]", "{", '{"http": "x"}', '{"http": 70000}'])
def test_a_damaged_file_is_no_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    assert ports.load(tmp_path / "ports.json") == {}
