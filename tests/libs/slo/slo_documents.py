"""Documents with promises, as the tests need them."""

from pathlib import Path

from headrace.pipeline import Pipeline
from headrace.slo import Places
from tests.libs.pipeline.pipeline_documents import changed, parsed

PLACES = Places(Path("/home/monitoring"), Path("/home/run/prometheus.json"))


def promising(text: str) -> Pipeline:
    """The test document with this value of the key `objectives`."""
    return parsed(changed(("deadline_ms: 250", f"deadline_ms: 250\nobjectives: {text}")))
