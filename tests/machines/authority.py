"""A test CA, and certificates of services as cert-manager writes them: DNS and SPIFFE names, SKI and AKI, one folder each."""

from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headrace.state import atomic
from tests.libs.hop.hop_certificates import certificate_builder, private_pem

_LOOPBACK = IPv4Address("127.0.0.1")
_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "headrace test CA")])


class Authority:
    """One CA. Two of them have the same subject, as a renewed one does; their key identifiers tell them apart."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = (
            certificate_builder(_SUBJECT, _SUBJECT, self._key)
            .add_extension(x509.BasicConstraints(True, 0), True)
            .add_extension(usage, True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = made.public_bytes(serialization.Encoding.PEM)

    def issue(self, folder: Path, dns: str, *also: str) -> None:
        """Writes `tls.key` and `tls.crt`, the key first: a reader between the two finds a pair that does not match, and waits.

        `dns`: SERVICE.NAMESPACE.svc; `also`: further names. 127.0.0.1 is always among them.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        service, namespace, *_ = dns.split(".")
        names = [
            x509.DNSName(dns),
            x509.UniformResourceIdentifier(f"spiffe://headrace/ns/{namespace}/sa/{service}"),
            *(x509.DNSName(name) for name in also),
            x509.IPAddress(_LOOPBACK),
        ]
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        ours = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = (
            certificate_builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, service)]), _SUBJECT, key)
            .add_extension(x509.SubjectAlternativeName(names), False)
            .add_extension(ours, False)
            .add_extension(usage, False)
            .sign(self._key, hashes.SHA256())
        )
        atomic.write(folder / "tls.key", private_pem(key), mode=0o640)
        atomic.write(folder / "tls.crt", made.public_bytes(serialization.Encoding.PEM))


def trust(folder: Path, *authorities: Authority) -> None:
    """Writes `ca.crt`: whom the service believes."""
    atomic.write(folder / "ca.crt", b"".join(authority.pem for authority in authorities))
