"""Every alert names metrics that the services have."""

import re

from prometheus_client import CollectorRegistry

from headrace.hop.metrics import ClientInstruments
from headrace.hop.process.certificates import CertificateInstruments
from headrace.slo import ALERTS, alert_names
from headrace.slo.catalogue import ANOMALIES
from headrace.slo.catalogue.anomalies import records
from services.control.audit.tasks import AuditMetrics
from services.control.metrics import Metrics as ControlMetrics
from services.executor.metrics import Metrics as ExecutorMetrics
from services.features.metrics import FeaturesMetrics
from services.ingress.documents.reloads import DocumentMetrics
from services.ingress.reporting.metrics import Metrics as IngressMetrics
from services.ingress.sharing.metrics import ShareMetrics
from services.monitoring.cost.metrics import CostMetrics
from services.monitoring.drift.metrics import DriftMetrics
from services.monitoring.drift.retrain.metrics import RetrainMetrics
from services.monitoring.events.metrics import EventMetrics as StoredEventMetrics
from services.monitoring.metrics import Metrics as MonitoringMetrics
from services.monitoring.outcomes.succession_watch import SuccessionMetrics
from services.monitoring.rollouts.metrics import RolloutMetrics
from services.router.cache.meter import CacheMetrics
from services.router.events.metrics import EventMetrics
from services.router.metrics import Metrics as RouterMetrics

# Made by hop's process (telemetry, heartbeat) and by Prometheus itself.
OF_EVERY_PROCESS = {"headrace_ready", "headrace_loop_heartbeat_age_seconds"}
_SUFFIX = re.compile(r"_(total|bucket|count|sum|created)$")


def existing() -> set[str]:
    """Names of all metrics of all services, without the endings of their series."""
    registry = CollectorRegistry()
    for metrics in (
        AuditMetrics,
        CertificateInstruments,
        ClientInstruments,
        ControlMetrics,
        DriftMetrics,
        RetrainMetrics,
        EventMetrics,
        StoredEventMetrics,
        ExecutorMetrics,
        FeaturesMetrics,
        DocumentMetrics,
        IngressMetrics,
        MonitoringMetrics,
        RolloutMetrics,
        CacheMetrics,
        CostMetrics,
        RouterMetrics,
        ShareMetrics,
        SuccessionMetrics,
    ):
        metrics(registry)
    return {_SUFFIX.sub("", family.name) for family in registry.collect()} | OF_EVERY_PROCESS


def test_alerts_name_metrics_that_exist() -> None:
    there = existing()
    signals = [record["expr"] for record in records()]
    expressions = [*(alert.expr for alert in (*ALERTS, *ANOMALIES)), *signals]
    named = {_SUFFIX.sub("", n) for e in expressions for n in re.findall(r"headrace_\w+(?![\w:])", e)}
    assert len(named) > 20
    assert {n for n in named if not n.startswith("headrace_signal")} - there == set()


def test_names_of_alerts_are_not_given_twice() -> None:
    assert sorted(set(alert_names())) == sorted(alert_names())


def test_each_failure_mode_has_an_alert() -> None:
    named = {alert.failure for alert in (*ALERTS, *ANOMALIES)}
    assert {f"F{n}" for n in range(1, 8)} <= named
