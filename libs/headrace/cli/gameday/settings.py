"""`HOME/settings/gameday.yaml`, which may be absent."""

from __future__ import annotations

from headrace.cli.installation.layout import Layout
from headrace.hop import config
from headrace.hop.config import Settings


class GameDaySettings(Settings):
    """`production`: people depend on this installation; `headrace gameday` breaks nothing in it unless it is told to."""

    production: bool = False


def read(layout: Layout) -> GameDaySettings:
    """The file, or the defaults. Raises ConfigError naming file, line and key."""
    path = layout.override("gameday")
    return config.load(GameDaySettings, path, {}) if path.exists() else GameDaySettings()
