"""The order of the client's layers, outermost first, with the reason for each place.

coalesce  outermost (batching/coalesce.py): the layers below cost once per batch, not once per item.
trace     the span covers retries and the wait for a slot, and records what the layers found out.
report    outside the retry: the caller sees one call, so one is counted.
deadline  before the retry: all attempts share one budget.
retry     outside the choice of replica: each attempt chooses again.
hedge     inside the retry: the second call to another replica is part of one attempt, and shares its budget.
pick      outside limit and breaker: these belong to one replica. A call that must wait for a slot waits here, for the
          first free slot of any replica.
limit     outside the breaker: the breaker is asked only when a slot was found.
breaker   next to the transport: it sees exactly what the callee did, and no refusal of our own.
transport gRPC channel or the service in this process; writes the remaining time into the request at the last moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from headrace.hop.client.layers import deadline, report, trace
from headrace.hop.client.observer import ClientObserver
from headrace.hop.client.outgoing import Next
from headrace.hop.client.settings import ClientRules
from headrace.hop.resilience.balancer import pick
from headrace.hop.resilience.breaker import breaker, transport
from headrace.hop.resilience.hedge import hedge
from headrace.hop.resilience.limiter import limit
from headrace.hop.resilience.replicas import ReplicaSet
from headrace.hop.resilience.retry import RetryBudget, retry

if TYPE_CHECKING:
    from headrace.hop.client.spans import ClientTraces


def compose(
    callee: str,
    settings: ClientRules,
    replicas: ReplicaSet,
    random: Callable[[], float],
    observer: ClientObserver,
    traces: ClientTraces | None,
) -> Next:
    """The layers below the coalescer, composed. All methods of a client share them, and so share the retry budget."""
    budget = RetryBudget(settings.retry.budget_ratio, settings.retry.budget_reserve)
    layers = (
        trace(traces),
        report(observer),
        deadline(callee, settings.default_timeout_s, settings.deadline_margin_s),
        retry(settings.retry, budget, random, observer.retried),
        hedge(replicas, settings.retry.silent_s, budget, observer.hedged),
        pick(callee, replicas, random),
        limit(callee, replicas),
        breaker(callee),
    )
    stack: Next = transport
    for layer in reversed(layers):
        stack = layer(stack)
    return stack
