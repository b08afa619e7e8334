"""What an installation's alerts are made from, and the files that come of it."""

from __future__ import annotations

from headrace import slo
from headrace.cli.diagnosis import broken_pipelines
from headrace.cli.installation.control_place import NotRunningError
from headrace.cli.installation.layout import Layout
from headrace.hop import config
from headrace.pipeline import Pipeline, load_folder


def settings(layout: Layout) -> slo.SloSettings:
    """`settings/slo.yaml`, or the defaults. Raises ConfigError naming file, line and key."""
    path = layout.override("slo")
    return config.load(slo.SloSettings, path, {}) if path.exists() else slo.SloSettings()


def promised(layout: Layout) -> list[Pipeline]:
    """The documents of the live arms; before the first release, and while control does not run, those that can be released.

    Raises ConfigError, DocumentError, OSError."""
    try:
        live = [found.live for found in broken_pipelines.look(layout).released.values()]
    except NotRunningError:
        live = []
    return live or list(load_folder(layout.documents).values())


def made(layout: Layout, chosen: slo.SloSettings) -> dict[str, str]:
    """Relative path → content of the files in `layout.alerts`. Raises ConfigError, DocumentError, OSError."""
    return slo.generate(promised(layout), chosen, slo.Places(layout.alerts.absolute(), layout.targets))
