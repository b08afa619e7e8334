"""Versions of services that were deployed beside the checkout."""

import json
from pathlib import Path

import pytest

from headrace.cli.installation import layout, ports
from headrace.cli.installation.settings import Installation, settings
from headrace.cli.supervision import deployed
from headrace.cli.supervision.deployed import Version
from headrace.hop.config import ConfigError


def test_a_service_runs_the_checkout_until_a_version_is_deployed(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    assert deployed.of(place, "router") is None
    version = Version(place.root, "1.0", "sha256:ab")
    deployed.put(place, "router", version)
    assert deployed.of(place, "router") == version
    assert deployed.of(place, "features") is None
    deployed.put(place, "router", None)
    assert deployed.of(place, "router") is None
    for text in ("", "[]", "{}", '{"root": 1}', '{"root": "/nowhere"}'):
        (place.deployed / "router.json").write_text(text)
        with pytest.raises(ConfigError, match=r"router\.json.*deploy router again, or remove the file"):
            deployed.of(place, "router")


async def test_a_version_makes_its_own_settings(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    chosen = ports.choose(ports.wanted(), {}, lambda _: True)
    installation = Installation(place, "apart", chosen)
    listen, run_dir = tmp_path / "router.sock", tmp_path / "run"
    made = await Version(place.root).settings(installation, "router", 0, listen, run_dir)
    own = settings(installation, "router", slot=0, listen=listen, run_dir=run_dir)
    assert made == json.loads(json.dumps(own, default=str))


async def test_a_version_that_can_not_make_them_says_why(tmp_path: Path) -> None:
    root = tmp_path / "other"
    (root / "libs" / "headrace").mkdir(parents=True)
    (root / "libs" / "headrace" / "__init__.py").write_text("raise RuntimeError('it is broken')")
    installation = Installation(layout.of(tmp_path), "apart", {})
    with pytest.raises(ConfigError, match="can't make settings of router: RuntimeError: it is broken"):
        await Version(root).settings(installation, "router", 0, tmp_path / "x", tmp_path)
