"""What the door counts of those whom it refuses."""

from collections import Counter

from tests.gauges import samples
from tests.system import System


def security_events(system: System) -> Counter[str]:
    """Security events counted so far, by kind."""
    found = samples(system, "headrace_ingress_security_events_total", ["ingress"])
    return Counter({labels["kind"]: int(value) for labels, value in found})
