"""A renewed certificate is served without a restart; a bad one is not, and stops nothing else."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from cryptography import x509

from headrace.hop import config, testing
from tests.libs.hop.hop_certificates import Authority, MountedSecret
from tests.services.ingress.ingress_calls import infer
from tests.services.ingress.ingress_door import (
    DoorProcess,
    FakeRouter,
    Folder,
    certificate,
    definition,
    infer_request,
    prepare,
    started,
)
from tests.services.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")
REQUEST = infer_request([[1, 2]], [1])


@pytest_asyncio.fixture(loop_scope="session")
async def folder(tmp_path: Path) -> AsyncIterator[Folder]:
    """What a door needs; it is not started."""
    async with testing.served(definition(FakeRouter())) as harness:
        yield prepare(tmp_path, harness.target)


@contextmanager
def connected(folder: Folder, mine: config.Tls | None = None) -> Iterator[ssl.SSLSocket]:
    """A connection to the TLS listener, whose certificate is not checked."""
    host, port = folder.tls.split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if mine is not None:
        context.load_cert_chain(mine.certificate, mine.key)
    with socket.create_connection((host, int(port)), 5) as raw, context.wrap_socket(raw) as tls:
        yield tls


def served(folder: Folder) -> bytes | None:
    """The certificate that the TLS listener has; None if it has none."""
    with suppress(OSError), connected(folder) as tls:
        return tls.getpeercert(binary_form=True)
    return None


def admitted(folder: Folder, mine: config.Tls | None) -> bool:
    """Whether the TLS listener answers a caller with this certificate."""
    with suppress(OSError), connected(folder, mine) as tls:
        tls.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return tls.recv(64).startswith(b"HTTP/1.1 200")
    return False


def on_disk(folder: Folder) -> bytes:
    return ssl.PEM_cert_to_DER_cert((folder.path / "cert.pem").read_text())


def replace(folder: Folder, files: config.Tls) -> None:
    """Puts a pair in place of the door's."""
    (folder.path / "key.pem").write_bytes(files.key.read_bytes())
    (folder.path / "cert.pem").write_bytes(files.certificate.read_bytes())


def gauge(folder: Folder, name: str, secret: str = "certificate") -> float | None:
    return folder.sample(f'headrace_ingress_certificate_{name}{{secret="{secret}"}}')


async def until_served(folder: Folder, wanted: bytes) -> None:
    await until(lambda: asyncio.to_thread(lambda: served(folder) == wanted))


async def until_gauge(folder: Folder, value: float, *name: str) -> None:
    await until(lambda: asyncio.to_thread(lambda: gauge(folder, *name) == value))


async def until_refused(folder: Folder, process: DoorProcess, why: str) -> None:
    await until(lambda: why in process.log())
    await until_gauge(folder, 1, "refused")


async def test_a_replaced_certificate_is_served(folder: Folder) -> None:
    async with started(folder) as process:
        await until_served(folder, on_disk(folder))
        await asyncio.to_thread(certificate, folder.path)
        await until_served(folder, on_disk(folder))
        good = on_disk(folder)
        # A certificate to which the key does not belong.
        other = folder.path / "other"
        other.mkdir()
        await asyncio.to_thread(certificate, other)
        (other / "cert.pem").replace(folder.path / "cert.pem")
        await until_refused(folder, process, "the key does not belong to the certificate")
        authority = Authority(other)
        replace(folder, authority.issue("old", "localhost", days=(-9, -2)))
        await until_refused(folder, process, "the certificate has expired")
        replace(folder, authority.issue("early", "localhost", days=(2, 9)))
        await until_refused(folder, process, "the certificate is not valid before")
        assert await asyncio.to_thread(served, folder) == good
        await infer(folder, REQUEST)
        replace(folder, authority.issue("fresh", "localhost", days=(-1, 3)))
        await until_served(folder, on_disk(folder))
        await until_gauge(folder, 0, "refused")
        ends = x509.load_pem_x509_certificate((folder.path / "cert.pem").read_bytes()).not_valid_after_utc
        assert await asyncio.to_thread(gauge, folder, "end_seconds") == ends.timestamp()


async def test_a_door_starts_with_a_bad_certificate_and_serves_what_needs_none(folder: Folder) -> None:
    good = (folder.path / "cert.pem").read_bytes()
    (folder.path / "cert.pem").write_text("no certificate")
    async with started(folder) as process:
        await infer(folder, REQUEST)
        assert await asyncio.to_thread(served, folder) is None
        assert "no TLS until this is mended: cert.pem, key.pem" in process.log()
        (folder.path / "cert.pem").write_bytes(good)
        await until_served(folder, on_disk(folder))


async def test_callers_need_a_certificate_of_the_clients_ca_if_one_is_set(tmp_path: Path) -> None:
    first, second = (authority(tmp_path / name) for name in ("first", "second"))
    mount = MountedSecret(tmp_path / "mounted", first.issue("door", "localhost"))
    async with testing.served(definition(FakeRouter())) as harness:
        folder = prepare(tmp_path / "door", harness.target)
        files = {"certificate": "tls.crt", "key": "tls.key", "client_ca": "ca.crt"}
        folder.settings["http"] |= {key: str(tmp_path / "mounted" / name) for key, name in files.items()}
        (folder.path / "ingress.yaml").write_text(yaml.safe_dump(folder.settings))
        async with started(folder) as process:
            mine, theirs = (a.issue("caller", "caller.test") for a in (first, second))
            await until(lambda: asyncio.to_thread(admitted, folder, mine))
            assert not await asyncio.to_thread(admitted, folder, theirs)
            assert not await asyncio.to_thread(admitted, folder, None)

            old = mount.tls.ca.read_bytes()
            mount.replace(config.Tls(certificate=mount.tls.certificate, key=mount.tls.key, ca=mine.key))
            await until_gauge(folder, 1, "refused", "client_ca")
            assert await asyncio.to_thread(admitted, folder, mine)
            assert "client_ca" in process.log()
            assert old not in mount.tls.ca.read_bytes()

            mount.replace(second.issue("door", "localhost"))
            await until(lambda: asyncio.to_thread(admitted, folder, theirs))
            assert not await asyncio.to_thread(admitted, folder, mine)


def authority(folder: Path) -> Authority:
    folder.mkdir()
    return Authority(folder)
