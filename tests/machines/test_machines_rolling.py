"""What is planned loses no request; a lost machine loses few, for as long as its loss goes unnoticed."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from headrace.cli.installation import services
from headrace.releases import Freeze, ReleaseStore
from tests.machines.authority import Authority
from tests.machines.caller import KEEPALIVE_S, KEEPALIVE_TIMEOUT_S
from tests.machines.cluster import ALONE, MACHINES, Cluster
from tests.machines.stranger import asked
from tests.machines.traffic import CHANNELS, TIMEOUT_S, Traffic, reasons
from tests.released import store_at
from tests.system import poll

RATE = 100.0
# New certificates are in use after this: clients look every 5 s, a server at its next handshake.
TAKEN_UP_S = 8.0
# Of callers at surviving doors when a machine is lost, and for how long.
MOST_LOST, RECOVERED_S = 5, 5.0
# When the doors' Service gives out no connection to the lost door any more. A cluster takes longer (Kubernetes 50 s), and until
# then some of those who connect anew meet the lost door again.
TOLD_S = 5.0
# When callers whose connection stands at the lost door know it is gone.
DETECTED_S = KEEPALIVE_S + KEEPALIVE_TIMEOUT_S
# When changes are accepted again, once the database is.
BACK_S = 5.0
_FREEZE = Freeze("tests", "the database is lost", datetime(2026, 12, 1, tzinfo=UTC))
SCALED = ("preprocessing", "executor", "router", services.INGRESS)


# The CA that comes after the present one; callers outside believe both from the start.
_NEXT = Authority()


@contextmanager
def _traffic(cluster: Cluster) -> Iterator[Traffic]:
    """Traffic, and what became of it on the screen, also if that is a failure."""
    with Traffic(cluster, RATE, (cluster.authority, _NEXT)) as calling:
        try:
            calling.mark("nothing happens")
            time.sleep(5)
            yield calling
        finally:
            calling.mark("end")
            for span in calling.spans():
                print(f"\n{span.row} {span.reasons or ''}", end="")


def _nothing_lost(traffic: Traffic) -> None:
    traffic.mark("end")
    time.sleep(TIMEOUT_S)
    lost = {span.name: span.reasons for span in traffic.spans() if span.lost}
    assert not lost


@pytest.mark.parametrize("service", services.start_order())
def test_a_rolled_service_loses_nothing(cluster: Cluster, service: str) -> None:
    made = [] if service == ALONE else cluster.ahead(service)
    with _traffic(cluster) as traffic:
        traffic.mark(f"{service} rolled")
        cluster.roll(service, made)
        _nothing_lost(traffic)


@pytest.mark.parametrize("service", SCALED)
def test_a_scaled_service_loses_nothing(cluster: Cluster, service: str) -> None:
    made = cluster.ahead(service)
    with _traffic(cluster) as traffic:
        traffic.mark(f"{service} 2 → 4 → 2")
        cluster.join(*made)
        time.sleep(5)
        for pod in made:
            cluster.stop(pod)
        _nothing_lost(traffic)


def test_new_certificates_and_a_new_ca_lose_nothing(cluster: Cluster) -> None:
    with _traffic(cluster) as traffic:
        old = cluster.authority
        traffic.mark("new certificates")
        cluster.certify(old)
        time.sleep(TAKEN_UP_S)
        traffic.mark("both CAs believed")
        cluster.trust(old, _NEXT)
        time.sleep(TAKEN_UP_S)
        traffic.mark("certificates of the new CA")
        cluster.certify(_NEXT)
        time.sleep(TAKEN_UP_S)
        traffic.mark("old CA dropped")
        cluster.trust(_NEXT)
        time.sleep(TAKEN_UP_S)
        _nothing_lost(traffic)
        for pod in cluster.pods:
            if pod.service != services.INGRESS:
                assert asked(cluster, pod, shown=old) is grpc.StatusCode.UNAVAILABLE, pod.service


@pytest.mark.parametrize("door", [False, True], ids=["without a door", "with a door"])
def test_a_lost_machine_loses_what_is_in_flight_and_what_stands_at_its_door(
    cluster: Cluster, door: bool
) -> None:
    doors = {pod.machine for pod in cluster.of(services.INGRESS)}
    lost = next(number for number in range(1, MACHINES + 1) if (number in doors) is door)
    with _traffic(cluster) as traffic:
        traffic.mark(f"machine {lost} of {MACHINES} lost, {'with' if door else 'without'} a door")
        cluster.network.cut(lost)
        time.sleep(TOLD_S)
        cluster.forget_doors(lost)
        time.sleep(DETECTED_S + RECOVERED_S + TIMEOUT_S - TOLD_S)
        traffic.mark("machine back")
        cluster.network.join(lost)
        cluster.tell(services.INGRESS)
        time.sleep(10)
        traffic.mark("end")
        time.sleep(TIMEOUT_S)
        _, gone, back = traffic.spans()
        begin, calls = traffic.marks[1][1], traffic.calls
    at_lost_door = {n for n in range(CHANNELS) if _all_lost(calls, n, begin + 1, begin + RECOVERED_S)}
    theirs = [call for call in gone.lost if call["channel"] in at_lost_door]
    others = [call for call in gone.lost if call["channel"] not in at_lost_door]
    print(
        f"{len(at_lost_door)} of {CHANNELS} channels at the lost door: {len(theirs)}; others: {len(others)}"
    )
    assert len(at_lost_door) == (CHANNELS / len(doors) if door else 0)
    assert len(others) <= MOST_LOST, reasons(others)
    assert all(call["at"] <= begin + RECOVERED_S for call in others)
    assert len(theirs) <= len(at_lost_door) / CHANNELS * RATE * (DETECTED_S + 1)
    assert all(call["at"] <= begin + DETECTED_S + 1 for call in theirs)
    assert not back.lost, back.reasons


def test_a_lost_redis_loses_nothing(cluster: Cluster) -> None:
    with _traffic(cluster) as traffic:
        traffic.mark("Redis killed")
        cluster.store.kill()
        time.sleep(10)
        traffic.mark("Redis back")
        cluster.store.start()
        time.sleep(10)
        _nothing_lost(traffic)


def test_a_lost_database_loses_nothing_and_changes_go_on_when_it_is_back(cluster: Cluster) -> None:
    with closing(store_at(cluster.control)) as store, _traffic(cluster) as traffic:
        traffic.mark("PostgreSQL killed")
        cluster.database.kill()
        with pytest.raises(OSError):
            store.freeze(_FREEZE)
        time.sleep(10)
        traffic.mark("PostgreSQL back")
        cluster.database.start()
        poll("a change is accepted", lambda: _accepted(store, _FREEZE), BACK_S)
        store.freeze(None)
        assert store.frozen() is None
        _nothing_lost(traffic)


def _accepted(store: ReleaseStore, freeze: Freeze) -> bool:
    try:
        store.freeze(freeze)
    except OSError:
        return False
    return store.frozen() == freeze


def _all_lost(calls: list[dict[str, Any]], channel: int, begin: float, end: float) -> bool:
    """Whether no call of the channel that began then had an answer."""
    return all(
        call["status"] != "OK" for call in calls if call["channel"] == channel and begin <= call["at"] < end
    )
