"""Who may do what over TLS: by the names in the certificate."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from headrace.catalog.access import Change, LeaseToken
from headrace.catalog.errors import RecordsError, RecordsUnavailableError
from headrace.catalog.remote import ControlTarget, RemoteRecords
from headrace.hop.call import LOCAL_PEER, Peer
from headrace.hop.client.settings import ClientRules, TlsFiles
from headrace.hop.errors import Fault
from headrace.hop.server.stack import UNIX_PEER
from headrace.resources.follower_state import FollowerState, Next
from headrace.resources.manifest import Verifier, new_keys
from services.control.identity import Identities
from tests.control_service import ControlService
from tests.hop_control import ThreadControl
from tests.libs.hop.hop_certificates import Authority
from tests.ports import free_port

KEYS = new_keys()
IDENTITIES = Identities(
    ["cli.headrace.svc", "door.headrace.svc"],
    {"r.headrace.svc": "router", "door.headrace.svc": "ingress"},
    {"router": ["release"], "ingress": ["release", "key"]},
)
STRANGER = Peer("tcp")


def tls(*names: str) -> Peer:
    return Peer("tls", names[0], True, names)


def allowed(check: Callable[..., None], *arguments: object) -> bool:
    try:
        check(*arguments)
    except Fault:
        return False
    return True


@pytest.mark.parametrize(
    ("peer", "may"),
    [
        (UNIX_PEER, (True, True, True)),
        (tls("cli.headrace.svc"), (True, True, True)),
        (tls("monitoring"), (True, True, False)),
        # It brings operators' changes, and judges nothing.
        (tls("door.headrace.svc"), (False, True, True)),
        (tls("router"), (False, False, False)),
        (STRANGER, (False, False, False)),
    ],
)
def test_who_judges_rollouts_needs_no_right_to_change(peer: Peer, may: tuple[bool, bool, bool]) -> None:
    found = (
        allowed(IDENTITIES.check_judge, peer),
        allowed(IDENTITIES.check_lease, peer, "rollouts"),
        allowed(IDENTITIES.check_lease, peer, "other"),
    )
    assert found == may
    assert allowed(IDENTITIES.check_read, peer, "freeze") == (may[0] or may[1])


@pytest.mark.parametrize(
    ("peer", "changes", "reads", "watches"),
    [
        (UNIX_PEER, True, {"release", "key", "other"}, {"router", "ingress"}),
        (LOCAL_PEER, True, {"release", "key", "other"}, {"router", "ingress"}),
        (tls("cli.headrace.svc"), True, {"release", "key", "other"}, set()),
        (tls("x", "r.headrace.svc"), False, {"release"}, {"router"}),
        (tls("ingress"), False, {"release", "key"}, {"ingress"}),
        (tls("somebody"), False, set(), set()),
        (STRANGER, False, set(), set()),
        (Peer("tls", "", False, ("cli.headrace.svc", "ingress")), False, set(), set()),
    ],
)
def test_names_decide(peer: Peer, changes: bool, reads: set[str], watches: set[str]) -> None:
    assert allowed(IDENTITIES.check_change, peer) == changes
    kinds = ("release", "key", "other")
    assert {kind for kind in kinds if allowed(IDENTITIES.check_read, peer, kind)} == reads
    services = ("router", "ingress")
    assert {s for s in services if allowed(IDENTITIES.check_watch, peer, s)} == watches
    assert allowed(IDENTITIES.check_known, peer) == peer.trusted


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def control(authority: Authority) -> Iterator[ControlService]:
    own = authority.issue("control", "control.headrace.svc")
    files = {name: str(getattr(own, name)) for name in ("certificate", "key", "ca")}
    service = ControlService(
        keys=KEYS, may_change=["cli.headrace.svc"], watchers={"router.headrace.svc": "router"}
    )
    service.target = f"127.0.0.1:{free_port()}"
    service.settings["server"] = {"listen": service.target, "tls": files, "drain_notice_s": 0.0}
    service.start(ready=False)
    with ExitStack() as stack:
        stack.callback(service.close)
        records = stack.enter_context(closing(client(service, authority, "cli.headrace.svc")))
        assert records.position().number == 1
        yield service


def target(control: ControlService, authority: Authority, name: str) -> ControlTarget:
    issued = authority.issue(name, name)
    files = TlsFiles(issued.certificate, issued.key, issued.ca)
    return ControlTarget(control.target, files, "control.headrace.svc")


def client(control: ControlService, authority: Authority, name: str) -> RemoteRecords:
    return RemoteRecords(target(control, authority, name), patience_s=60.0)


def test_only_those_who_may_change_do(control: ControlService, authority: Authority) -> None:
    with closing(client(control, authority, "cli.headrace.svc")) as records:
        made = records.change(Change("me", "x", "y"))
        assert next(records.lines(made.position.number - 1)).sha256 == made.position.head
    with closing(client(control, authority, "router.headrace.svc")) as records:
        for attempt in (
            lambda: records.change(Change("me", "x", "y")),
            lambda: records.take_lease("ladder", "me", 5),
            lambda: records.give_back(LeaseToken("ladder", "x")),
            lambda: list(records.lines()),
            lambda: records.list("key"),
        ):
            with pytest.raises(RecordsUnavailableError, match="no name in the caller"):
                attempt()
        assert records.list("release") == []
        assert records.position() == made.position


def test_a_process_follows_as_the_service_that_it_is(control: ControlService, authority: Authority) -> None:
    found = target(control, authority, "router.headrace.svc")
    remote = ThreadControl(ClientRules(found.target, found.tls, found.server_name))
    with closing(remote):
        state = FollowerState("r", "router", Verifier([KEYS[1]]))
        answer = remote.watch(state.request(0, (), ready=False), 25.0)
        assert state.receive(answer).next is Next.APPLY
        state = FollowerState("r", "ingress", Verifier([KEYS[1]]))
        with pytest.raises(OSError, match="follow what is live as ingress"):
            remote.watch(state.request(0, (), ready=False), 25.0)


def test_a_text_names_the_certificates(control: ControlService, authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue("cli.headrace.svc", "cli.headrace.svc")
    options = (
        f"ca={issued.ca}&certificate={issued.certificate}&key={issued.key}&server_name=control.headrace.svc"
    )
    with closing(RemoteRecords(f"{control.target}?{options}")) as records:
        assert records.position().number >= 1
    with closing(RemoteRecords(control.target, patience_s=0.0)) as records, pytest.raises(RecordsError):
        records.position()
