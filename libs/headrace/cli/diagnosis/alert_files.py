"""Where what fires is known: the settings of an installation's alerts."""

from __future__ import annotations

from headrace.cli.installation.layout import Layout
from headrace.cli.supervision import prometheus_targets
from headrace.hop import config
from headrace.slo import SloSettings
from headrace.slo.servers import PrometheusApi, ServerError


def settings(layout: Layout) -> SloSettings:
    """`settings/slo.yaml`, or the defaults. Raises ConfigError naming file, line and key."""
    path = layout.override("slo")
    return config.load(SloSettings, path, {}) if path.exists() else SloSettings()


def prometheus(layout: Layout) -> PrometheusApi:
    """The Prometheus of the settings, or monitoring, which answers the same. Raises ConfigError, ServerError: there is none."""
    if named := settings(layout).prometheus:
        return PrometheusApi(named)
    try:
        found = prometheus_targets.read(layout.targets)["monitoring"]
    except (OSError, KeyError):
        raise ServerError(
            "monitoring does not run, and settings/slo.yaml names no prometheus: headrace up"
        ) from None
    return PrometheusApi(f"http://{found}")
