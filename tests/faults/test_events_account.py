"""The account of events: what callers were answered is stored, or told as a gap, whoever is killed in between."""

import json
import os
from collections.abc import Iterator
from functools import partial

import pytest

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.cli.commands.operations.event_calls import ask
from headrace.cli.installation import layout
from headrace.columns.wire import decode
from tests.faults.traffic import Traffic
from tests.system import HOME, System, headrace, poll

KILLS = int(os.environ.get("HEADRACE_KILLS", "3"))
# At 300 a second, as each of a dozen callers rests for a while, 2 s between two kills.
PAUSE_S, CALM = 0.03, 600


def stored(pipeline: str = "") -> Iterator[str]:
    """Ids of the requests of all events, or those of a pipeline, read as an operator reads them."""
    page = ""
    while True:
        chosen = pb.ListEventsRequest(pipeline=pipeline, limit=1000)
        wanted = pb.ReadEventsRequest(chosen=chosen, page=page)
        reply = ask(layout.of(HOME), "ReadEvents", wanted, pb.ReadEventsResponse)
        for group in reply.groups:
            yield from decode(group.batch).rows.request_ids
        if not (page := reply.next_page):
            return


def missing() -> int:
    streams = json.loads(headrace("events", "gaps", "--json"))
    return sum(last - first + 1 for stream in streams for first, last in stream["gaps"])


@pytest.mark.slow  # counts events of minutes
def test_what_was_answered_is_stored_or_told_as_a_gap(system: System) -> None:
    before = missing()
    with Traffic(system, timeout_s=10.0, pause_s=PAUSE_S) as traffic:
        for i in range(KILLS):
            goal = len(traffic.answered()) + CALM
            poll("requests are answered", partial(traffic.has_answered, goal))
            system.kill("router" if i % 2 else "monitoring")
            if i % 3 == 2:
                system.kill("router")

    poll("monitoring serves", lambda: any(layout.of(HOME).listed("monitoring").glob("*.sock")))

    answered = traffic.answered()
    failed = len(traffic.outcomes) - len(answered)

    def account() -> bool:
        lost, gaps = len(answered - set(stored())), missing() - before
        print(f"{len(answered)} answered, {failed} failed, {lost} not stored, {gaps} told")
        # An event of a request whose answer was lost on its way may be a gap too.
        return lost <= gaps <= lost + failed

    poll("the counts agree", account)
    assert failed
