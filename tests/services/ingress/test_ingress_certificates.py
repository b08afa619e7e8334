"""A renewed certificate is served without a restart; a bad one is not, and stops nothing else."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.hop import testing
from tests.services.ingress.ingress_calls import infer
from tests.services.ingress.ingress_door import (
    DoorProcess,
    FakeRouter,
    Folder,
    certificate,
    definition,
    infer_request,
    prepare,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(params=["envoy", "grpc"], loop_scope="session")
async def folder(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Folder]:
    """What a door needs; it is not started."""
    tmp_path.chmod(0o700)
    async with testing.served(definition(FakeRouter())) as harness:
        server = {"listen": f"unix:{tmp_path / 'ingress.sock'}"}
        yield prepare(tmp_path, harness.target, mode=request.param, server=server)


def served(folder: Folder) -> bytes | None:
    """The certificate that the TLS listener shows; None if it shows none."""
    host, port = folder.tls.split(":")
    tls_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls_context.check_hostname, tls_context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, int(port)), 5) as raw,
            tls_context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            return tls.getpeercert(binary_form=True)
    except OSError:
        return None


def on_disk(folder: Folder) -> bytes:
    return ssl.PEM_cert_to_DER_cert((folder.path / "cert.pem").read_text())


async def until_served(folder: Folder, wanted: bytes) -> None:
    async with asyncio.timeout(10):
        while await asyncio.to_thread(served, folder) != wanted:
            await asyncio.sleep(0.1)


async def test_a_replaced_certificate_is_served(folder: Folder) -> None:
    process = DoorProcess(folder)
    try:
        await process.ready(folder.grpc)
        await until_served(folder, on_disk(folder))
        await asyncio.to_thread(certificate, folder.path)
        await until_served(folder, on_disk(folder))
        good = on_disk(folder)
        # A certificate to which the key does not belong.
        other = folder.path / "other"
        other.mkdir()
        await asyncio.to_thread(certificate, other)
        (other / "cert.pem").replace(folder.path / "cert.pem")
        async with asyncio.timeout(10):
            while "certificate not taken over" not in process.log():
                await asyncio.sleep(0.1)
        assert await asyncio.to_thread(served, folder) == good
        await infer(folder, infer_request([[1, 2]], [1]))
        await asyncio.to_thread(certificate, folder.path)
        await until_served(folder, on_disk(folder))
    finally:
        process.kill()


async def test_a_door_starts_with_a_bad_certificate_and_serves_what_needs_none(folder: Folder) -> None:
    good = (folder.path / "cert.pem").read_bytes()
    (folder.path / "cert.pem").write_text("no certificate")
    process = DoorProcess(folder)
    try:
        await process.ready(folder.grpc)
        await infer(folder, infer_request([[1, 2]], [1]))
        assert await asyncio.to_thread(served, folder) is None
        assert "no TLS until this is mended: cert.pem, key.pem" in process.log()
        (folder.path / "cert.pem").write_bytes(good)
        await until_served(folder, on_disk(folder))
    finally:
        process.kill()
