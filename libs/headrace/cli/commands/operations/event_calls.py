"""Calls of the monitoring service's events, on its socket, which only the owner of the home can reach."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.cli.commands.operations import service_calls
from headrace.cli.console import err
from headrace.cli.installation.layout import Layout

_SERVICE = pb.DESCRIPTOR.services_by_name["EventsService"]
# While a key is not here, many segments may need it.
_NAMED = 20
_EVENT_ID = re.compile(r"[0-9a-f]{32}")
Reply = TypeVar("Reply", bound=Message)


def ask(layout: Layout, name: str, request: Message, reply: type[Reply]) -> Reply:
    """The answer of a method of events; see `service_calls.ask`."""
    return service_calls.ask(layout, "monitoring", _SERVICE.methods_by_name[name], request, reply)


def tell_unreadable(segments: Iterable[str]) -> None:
    """Says which segments could not be read."""
    names = list(segments)
    for name in names[:_NAMED]:
        err.print(f"segment {name} can't be read: it was set aside, or its key is not here", style="yellow")
    if len(names) > _NAMED:
        err.print(f"and {len(names) - _NAMED} more segments", style="yellow")


def named(identity: str) -> list[pb.ListEventsRequest]:
    """What an id may name, the likeliest first: a prediction, or a request, or an event."""
    if identity.rpartition("/")[2].isdecimal() and "/" in identity:
        return [pb.ListEventsRequest(prediction_id=identity), pb.ListEventsRequest(request_id=identity)]
    # The ids of requests that callers do not name themselves have as many digits as those of events.
    events = [pb.ListEventsRequest(prediction_id=identity)] if _EVENT_ID.fullmatch(identity) else []
    return [*events, pb.ListEventsRequest(request_id=identity)]
