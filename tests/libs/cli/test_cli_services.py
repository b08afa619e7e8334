"""The services of an installation are those of the entry points; one more needs no edit in the command line."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.installation import layout, services
from headrace.cli.installation.settings import settings
from headrace.cli.main import app
from headrace.hop.server import hosting
from load.systems.headrace import Setup
from load.systems.headrace import settings as load_settings
from tests.libs.cli.test_cli_settings import made

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
    refused = CliRunner().invoke(app, ["up", "--home", str(tmp_path / "h"), "--replicas", "nobody=2"])
    assert "dummy" in refused.stderr
    override = layout.of(tmp_path / "home").override("dummy")
    override.parent.mkdir(parents=True)
    override.write_text("speed: 2\n")
    looked = CliRunner().invoke(app, ["doctor", "--home", str(tmp_path / "home")])
    assert "of no service" not in looked.stdout


@pytest.mark.usefixtures("one_more")
def test_the_load_generator_can_switch_off_its_coalescing(tmp_path: Path) -> None:
    off = load_settings(Setup(tmp_path, coalescing=False))
    callees = off["caller"]["dummy"], off["router"]["features"]
    assert [callee["coalesce"]["max_rows"] for callee in callees] == [1, 1]
    assert load_settings(Setup(tmp_path)).keys() == {"ingress"}
