"""The services of an installation are those of the entry points, and one more needs no edit in the command line. The generated
settings are what the services' own settings classes take, in both shapes."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.installation import layout, ports, services
from headrace.cli.installation.settings import Installation, Shape, overlaid, settings
from headrace.hop.resilience.resolve import parse
from headrace.hop.server import hosting
from headrace.hop.server.hosting import definition_named
from load.systems.headrace import Setup
from load.systems.headrace import settings as load_settings
from services.ingress.config import IngressSettings
from tests.libs.cli.released_home import run


def made(home: Path, shape: Shape, **counts: int) -> Installation:
    place = layout.of(home)
    place.make()
    instances = Installation(place, shape, {}, counts).instances
    return Installation(place, shape, ports.choose(ports.wanted(instances), {}, lambda _: True), counts)


def of(installation: Installation, service: str, slot: int = 0) -> Any:
    place = installation.layout
    name = layout.service_of(service)
    kind = IngressSettings if name == "ingress" else definition_named(name).config
    values = settings(
        installation,
        service,
        slot=slot,
        listen=place.starting(service, 1),
        run_dir=place.private(service, slot),
    )
    return kind.model_validate(values)


@pytest.mark.parametrize("service", services.start_order())
def test_each_service_takes_its_settings(tmp_path: Path, service: str) -> None:
    installation = made(tmp_path, "apart")
    first, second = of(installation, service), of(installation, service, slot=1)
    assert first.server.listen.startswith("unix:/")
    # Old and new live side by side during a restart.
    assert first.telemetry.metrics != second.telemetry.metrics


def test_callers_follow_the_directories_where_sockets_are_listed(tmp_path: Path) -> None:
    installation = made(tmp_path, "apart")
    router = of(installation, "router").model_dump()
    for name in services.callees("router"):
        assert parse(router[name]["target"]).directory == str(installation.layout.listed(name))
    ingress = of(installation, "ingress")
    assert parse(ingress.router.target).directory == str(installation.layout.listed("router"))


def test_together_all_that_requests_pass_is_in_the_ingress(tmp_path: Path) -> None:
    installation = made(tmp_path, "together")
    assert installation.services == ("control", "monitoring", "ingress")
    ingress = of(installation, "ingress")
    assert ingress.router.target == "local"
    assert ingress.router.coalesce.window == 1, "one thread works on them"
    assert set(ingress.together) == {*services.hosted()} - {"control", "monitoring"}
    for name, values in ingress.together.items():
        definition_named(name).config.model_validate(values)
    aside = {name: f"unix-dir:{installation.layout.listed(name)}" for name in services.ASIDE}
    targets = {name: ingress.together["router"][name]["target"] for name in services.callees("router")}
    assert targets == dict.fromkeys(services.callees("router"), "local") | aside
    assert ingress.monitoring is not None
    assert ingress.control is not None
    assert {"monitoring": ingress.monitoring.target, "control": ingress.control.target} == aside


def test_no_two_processes_share_a_port_and_there_is_a_batch_for_each(tmp_path: Path) -> None:
    chosen = made(tmp_path, "apart", ingress=3, executor=2).ports
    assert len(set(chosen.values())) == len(chosen)
    assert {"metrics.executor.2.1", "admin.ingress.3.0", "metrics.ingress.0"} <= chosen.keys()
    installation = made(tmp_path, "apart", executor=5, router=6)
    router = of(installation, "router").model_dump()
    assert router["executor"]["coalesce"]["window"] == 5
    assert router["features"]["coalesce"]["window"] == 2
    ingress = of(installation, "ingress")
    assert ingress.router.coalesce.window == 6


def test_processes_of_one_service_share_its_door_and_its_counts_and_nothing_else(tmp_path: Path) -> None:
    installation = made(tmp_path, "apart", ingress=2)
    assert installation.instances[-2:] == ("ingress", "ingress.2")
    one, other = of(installation, "ingress"), of(installation, "ingress.2")
    assert one.http == other.http
    assert one.quotas == other.quotas is not None
    assert {one.admin, one.telemetry.metrics, str(one.run_dir)}.isdisjoint(
        {other.admin, other.telemetry.metrics, str(other.run_dir)}
    )


def test_the_console_asks_only_an_alertmanager_that_somebody_has_named(tmp_path: Path) -> None:
    installation = made(tmp_path, "apart")
    console = of(installation, "monitoring").model_dump()["console"]
    assert (console["alertmanager"], console["traces"]) == (None, installation.layout.traces)
    assert (console["runbooks"] / "auth-failures.md").is_file()
    override = installation.layout.override("slo")
    override.parent.mkdir(parents=True, exist_ok=True)
    override.write_text("alertmanager: http://127.0.0.1:9093\n")
    assert of(installation, "monitoring").model_dump()["console"]["alertmanager"] == "http://127.0.0.1:9093"


def test_an_overlay_reaches_into_mappings_and_leaves_the_base_alone() -> None:
    base = {"server": {"listen": "a", "drain_s": 1}, "load": ["x"]}
    assert overlaid(base, {"server": {"drain_s": 2}, "load": ["y"], "new": 1}) == {
        "server": {"listen": "a", "drain_s": 2},
        "load": ["y"],
        "new": 1,
    }
    assert base == {"server": {"listen": "a", "drain_s": 1}, "load": ["x"]}


_CONFIG = """
from pathlib import Path

from headrace.hop import config


class DummyConfig(config.ServiceSettings):
    speed: int = 1
    {fields}
"""


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Installed besides the real ones: `dummy`, which nobody calls, and `caller`, which calls it and the executor."""
    fields = {
        "dummy": "",
        "caller": "executor: config.ClientSettings\n    dummy: config.ClientSettings | None = None",
    }
    for name, text in fields.items():
        package = tmp_path / f"installed_{name}"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "config.py").write_text(_CONFIG.format(fields=text))
    monkeypatch.syspath_prepend(tmp_path)
    added = [EntryPoint(n, f"installed_{n}.wiring:SERVICE", services.GROUP) for n in fields]
    real = entry_points(group=services.GROUP)
    monkeypatch.setattr(
        services, "entry_points", lambda **which: EntryPoints([*real, *added]).select(**which)
    )
    services.clear()
    yield
    services.clear()


def test_the_order_of_today() -> None:
    assert services.GROUP == hosting.GROUP
    leaves = ("monitoring", "features", "preprocessing", "executor", "postprocessing")
    assert services.start_order() == ("control", *leaves, "router", "ingress")
    assert services.stop_groups() == (("ingress",), ("router",), leaves, ("control",))
    assert services.callees("ingress") == ("control", "router", "monitoring")
    assert services.callees("router") == ("control", *leaves)
    assert services.callees("executor") == services.callees("monitoring") == ("control",)
    assert services.callees("control") == ()


@pytest.mark.usefixtures("one_more")
def test_a_further_service_starts_before_those_that_call_it_and_stops_after_them() -> None:
    order = services.start_order()
    assert order.index("dummy") < order.index("caller") < order.index("ingress")
    assert order.index("executor") < order.index("caller")
    stops = {name: i for i, group in enumerate(services.stop_groups()) for name in group}
    assert stops["caller"] < stops["dummy"]
    assert stops["ingress"] == 0
    assert sorted(stops) == sorted(order)


@pytest.mark.usefixtures("one_more")
def test_a_further_service_gets_folders_ports_and_settings(tmp_path: Path) -> None:
    installation = made(tmp_path / "home", "apart")
    place = installation.layout
    assert place.listed("dummy").is_dir()
    values = settings(
        installation, "dummy", slot=0, listen=place.starting("dummy", 1), run_dir=place.private("dummy", 0)
    )
    assert values == {
        "server": {"listen": f"unix:{place.starting('dummy', 1)}"},
        "telemetry": {"metrics": installation.metrics("dummy", 0)},
    }
    calling = settings(
        installation, "caller", slot=0, listen=place.starting("caller", 1), run_dir=place.run / "x"
    )
    assert calling["executor"] == {"target": f"unix-dir:{place.listed('executor')}"}
    assert calling["dummy"] == {"target": f"unix-dir:{place.listed('dummy')}"}
    # It is hosted in the shape together.
    installation = made(tmp_path / "home", "together")
    door = settings(installation, "ingress", slot=0, listen=tmp_path / "door.sock", run_dir=tmp_path / "door")
    assert door["together"]["dummy"] == {"server": {"listen": "local"}}
    assert door["together"]["caller"]["dummy"] == {"target": "local"}


@pytest.mark.usefixtures("one_more")
def test_a_further_service_has_replicas_and_settings_of_a_persons_own(tmp_path: Path) -> None:
    refused = run(tmp_path / "h", "up", "--replicas", "nobody=2")
    assert "dummy" in refused.stderr
    override = layout.of(tmp_path / "home").override("dummy")
    override.parent.mkdir(parents=True)
    override.write_text("speed: 2\n")
    looked = run(tmp_path / "home", "doctor")
    assert "of no service" not in looked.stdout


@pytest.mark.usefixtures("one_more")
def test_the_load_generator_can_switch_off_its_coalescing(tmp_path: Path) -> None:
    off = load_settings(Setup(tmp_path, coalescing=False))
    callees = off["caller"]["dummy"], off["router"]["features"]
    assert [callee["coalesce"]["max_rows"] for callee in callees] == [1, 1]
    assert load_settings(Setup(tmp_path)).keys() == {"ingress"}
