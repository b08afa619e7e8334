"""A timestamping authority (RFC 3161): `openssl ts` with certificates of its own, behind HTTP."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.libs.hop.hop_certificates import certificate_builder, private_pem
from tests.web_server import Answer, Request, web_server

_CONFIG = """
[tsa]
default_tsa = own
[own]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
"""


class Authority:
    """`answer`: bytes to answer in place of a timestamp; `status`: of HTTP."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roots = folder / "roots.pem"
        self.asked = 0
        self.answer: bytes | None = None
        self.status = 200
        self.url = ""
        folder.mkdir()
        _certificates(folder)
        (folder / "serial").write_text("01\n")
        (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder))

    def stamp(self, query: bytes) -> bytes:
        """The real answer to a query."""
        (self.folder / "query").write_bytes(query)
        command = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-section", "own", "-queryfile", "query"]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True).stdout

    def reply(self, query: bytes) -> bytes:
        self.asked += 1
        return self.stamp(query) if self.answer is None else self.answer


@contextmanager
def authority(folder: Path) -> Iterator[Authority]:
    """An authority that listens meanwhile."""
    made = Authority(folder)

    def answer(request: Request) -> Answer:
        status = made.status  # as it was when the question came
        return status, {"Content-Type": "application/timestamp-reply"}, made.reply(request.body)

    with web_server(answer) as made.url:
        yield made


def _certificates(folder: Path) -> None:
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root, name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
        for text in ("Root of the tests", "Their TSA")
    )
    stamps = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
    signed = [
        certificate_builder(root, root, root_key, (-1, 2)).add_extension(
            x509.BasicConstraints(True, None), critical=True
        ),
        certificate_builder(name, root, key, (-1, 2)).add_extension(stamps, critical=True),
    ]
    for file, builder in zip(("roots.pem", "tsa.pem"), signed, strict=True):
        made = builder.sign(root_key, hashes.SHA256())
        (folder / file).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "tsa.key").write_bytes(private_pem(key))
