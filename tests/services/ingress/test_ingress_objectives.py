"""What the door counts of objectives: good and bad by each document, from 0 on, for as long as there is the pipeline."""

from prometheus_client import CollectorRegistry, generate_latest

from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import Pipeline, parse
from services.ingress.documents.catalog import Catalog
from services.ingress.reporting.metrics import Metrics
from services.ingress.request_context import RequestContext, RequestTrace
from tests.libs.pipeline.pipeline_documents import SMALL


def document(name: str, objectives: str = "") -> Pipeline:
    text = SMALL.replace("pipeline: small", f"pipeline: {name}")
    return parse(text + (f"objectives: {objectives}\n" if objectives else ""), name)


BOTH = "{availability: 0.99, latency: {p: 0.95, ms: 100}, window: 7d}"


class Door:
    def __init__(self, *pipelines: Pipeline) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.catalog = Catalog({p.name: p for p in pipelines}, changed=self.metrics.follow)

    def serve(self, *pipelines: Pipeline) -> None:
        self.catalog.replace({p.name: p for p in pipelines})

    def count(self, pipeline: str, outcome: str, seconds: float) -> None:
        context = RequestContext("Predict", {}, 0.0, RequestTrace("", "", sampled=False))
        context.pipeline, context.inference = pipeline, True
        if outcome == "ours":
            context.fault = Fault(Code.INTERNAL, Reason.REASON_INTERNAL, "broken")
        code = {"ok": Code.OK, "ours": Code.INTERNAL, "gave_up": Code.CANCELLED}.get(outcome, Code.NOT_FOUND)
        self.metrics.done(context, code, seconds)

    def of(self, what: str, pipeline: str, objective: str) -> float | None:
        labels = {"pipeline": pipeline, "objective": objective}
        return self.registry.get_sample_value(f"headrace_objective_{what}_total", labels)

    def counted(self, objective: str) -> tuple[float | None, float | None]:
        return self.of("requests", "p", objective), self.of("bad", "p", objective)


def test_every_series_begins_at_0_with_the_target_of_its_document() -> None:
    door = Door(document("p", BOTH), document("q"))
    assert (door.counted("availability"), door.counted("latency")) == ((0, 0), (0, 0))
    page = generate_latest(door.registry).decode()
    assert 'headrace_objective_target{objective="latency",period_s="604800",pipeline="p"} 0.95' in page
    # A document without objectives has the usual one.
    assert 'headrace_objective_target{objective="availability",period_s="2592000",pipeline="q"} 0.999' in page
    assert door.of("requests", "q", "latency") is None


def test_each_outcome_is_good_or_bad_or_counts_for_nothing() -> None:
    door = Door(document("p", BOTH))
    for outcome, took_s in (("ok", 0.1), ("ok", 0.101), ("ours", 0.01), ("gave_up", 0.01), ("caller", 9.0)):
        door.count("p", outcome, took_s)
    assert door.counted("availability") == (4, 1)
    assert door.counted("latency") == (3, 2)
    door.count("unknown", "ok", 0.1)
    door.count("", "ours", 0.1)
    assert door.counted("availability") == (4, 1)


def test_counts_go_on_with_a_changed_document_and_end_with_the_pipeline_and_the_objective() -> None:
    door = Door(document("p", BOTH))
    door.count("p", "ok", 0.2)
    door.serve(document("p", "{availability: 0.999, latency: {p: 0.95, ms: 250}}"))
    door.count("p", "ok", 0.2)
    assert door.counted("latency") == (2, 1)
    door.serve(document("p", "{availability: 0.999}"))
    assert door.counted("availability") == (2, 0)
    assert door.counted("latency") == (None, None)
    door.serve()
    assert "headrace_objective_target{" not in generate_latest(door.registry).decode()
    assert door.counted("availability") == (None, None)
