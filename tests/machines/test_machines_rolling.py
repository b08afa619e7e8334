"""What is planned loses no request; a lost machine loses few, for as long as its loss goes unnoticed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from headrace.cli.installation import services
from tests.machines.authority import Authority
from tests.machines.cluster import ALONE, MACHINES, Cluster
from tests.machines.stranger import asked
from tests.machines.traffic import CHANNELS, TIMEOUT_S, Traffic

RATE = 100.0
# New certificates are in use after this: clients look every 5 s, a server at its next handshake.
TAKEN_UP_S = 8.0
# Of callers at surviving doors when a machine is lost, and for how long.
MOST_LOST, RECOVERED_S = 5, 5.0
SCALED = ("preprocessing", "executor", "router", services.INGRESS)


# The CA that comes after the present one; callers outside believe both from the start.
_NEXT = Authority()


@contextmanager
def _traffic(cluster: Cluster) -> Iterator[Traffic]:
    with Traffic(cluster, RATE, (cluster.authority, _NEXT)) as calling:
        calling.mark("nothing happens")
        time.sleep(5)
        yield calling
    print("\n" + "\n".join(span.row for span in calling.spans()))


def _nothing_lost(traffic: Traffic) -> None:
    traffic.mark("end")
    time.sleep(TIMEOUT_S)
    lost = {span.name: span.lost[:5] for span in traffic.spans() if span.lost}
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


def test_a_lost_machine_loses_what_is_in_flight(cluster: Cluster) -> None:
    lost = cluster.of("preprocessing")[0].machine
    with _traffic(cluster) as traffic:
        traffic.mark(f"machine {lost} of {MACHINES} lost")
        cluster.network.cut(lost)
        time.sleep(TIMEOUT_S + 5)
        traffic.mark("machine back")
        cluster.network.join(lost)
        time.sleep(10)
        traffic.mark("end")
        time.sleep(TIMEOUT_S)
        gone = traffic.spans()[1]
        begin = traffic.marks[1][1]
    # A caller whose connection stands at the lost door has gRPC's defaults, which give up a silent connection after minutes.
    at_lost_door = {call["channel"] for call in gone.lost if call["at"] > begin + RECOVERED_S}
    others = [call for call in gone.lost if call["channel"] not in at_lost_door]
    doors = cluster.of(services.INGRESS)
    assert bool(at_lost_door) <= any(door.machine == lost for door in doors)
    assert len(at_lost_door) < CHANNELS
    assert len(others) <= MOST_LOST
