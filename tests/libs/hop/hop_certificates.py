"""A certificate authority for tests of mTLS."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headrace.hop import config

_NOW = datetime.datetime.now(datetime.UTC)


def certificate_builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: tuple[int, int] = (-1, 1)
) -> x509.CertificateBuilder:
    """Of a certificate that is valid between these `days` from now."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW + datetime.timedelta(days=days[0]))
        .not_valid_after(_NOW + datetime.timedelta(days=days[1]))
    )


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """As files of keys hold it."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


class Authority:
    """Signs certificates and writes them into a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = certificate_builder(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(True, None), critical=True
        )
        self.ca = directory / f"{name}.pem"
        self.ca.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(
        self, file: str, *names: str, peers: tuple[str, ...] = (), days: tuple[int, int] = (-1, 1)
    ) -> config.Tls:
        """Files of a new key and certificate for the DNS names; an old pair of the same file name is replaced. It is valid
        between these `days` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file)])
        alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        built = certificate_builder(subject, self._name, key, days).add_extension(alternative, critical=False)
        certificate = built.sign(self._key, hashes.SHA256())
        paths = self._directory / f"{file}.crt", self._directory / f"{file}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(private_pem(key))
        return config.Tls(certificate=paths[0], key=paths[1], ca=self.ca, peers=peers)


class MountedSecret:
    """A folder as Kubernetes mounts a Secret of cert-manager: `tls.crt`, `tls.key` and `ca.crt` lead through the link `..data`,
    which is replaced in one step."""

    def __init__(self, folder: Path, files: config.Tls) -> None:
        self._folder = folder
        self._count = 0
        folder.mkdir()
        self.replace(files)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (folder / name).symlink_to(Path("..data") / name)
        self.tls = config.Tls(certificate=folder / "tls.crt", key=folder / "tls.key", ca=folder / "ca.crt")

    def replace(self, files: config.Tls) -> None:
        """Mounts the contents of other files."""
        self._count += 1
        data = self._folder / f"..2026_{self._count}"
        data.mkdir()
        for name, file in (("tls.crt", files.certificate), ("tls.key", files.key), ("ca.crt", files.ca)):
            (data / name).write_bytes(file.read_bytes())
        (self._folder / "..next").symlink_to(data.name)
        (self._folder / "..next").replace(self._folder / "..data")
