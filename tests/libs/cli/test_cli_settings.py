"""The generated settings are what the services' own settings classes take, in both shapes."""

from pathlib import Path

import pytest

from headrace.cli.installation import layout, ports, services
from headrace.cli.installation.settings import Installation, Shape, overlaid, settings
from headrace.hop import config
from headrace.hop.resilience.resolve import parse
from headrace.hop.server.hosting import definition_named
from services.ingress.config import IngressSettings


def made(home: Path, shape: Shape, **counts: int) -> Installation:
    place = layout.of(home)
    place.make()
    instances = Installation(place, shape, {}, counts).instances
    return Installation(place, shape, ports.choose(ports.wanted(instances), {}, lambda _: True), counts)


def of(installation: Installation, service: str, slot: int = 0) -> config.ServiceSettings:
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
    assert isinstance(ingress, IngressSettings)
    assert parse(ingress.router.target).directory == str(installation.layout.listed("router"))


def test_together_all_that_requests_pass_is_in_the_ingress(tmp_path: Path) -> None:
    installation = made(tmp_path, "together")
    assert installation.services == ("control", "monitoring", "ingress")
    ingress = of(installation, "ingress")
    assert isinstance(ingress, IngressSettings)
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
    assert isinstance(ingress, IngressSettings)
    assert ingress.router.coalesce.window == 6


def test_processes_of_one_service_share_its_door_and_its_counts_and_nothing_else(tmp_path: Path) -> None:
    installation = made(tmp_path, "apart", ingress=2)
    assert installation.instances[-2:] == ("ingress", "ingress.2")
    one, other = of(installation, "ingress"), of(installation, "ingress.2")
    assert isinstance(one, IngressSettings)
    assert isinstance(other, IngressSettings)
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
