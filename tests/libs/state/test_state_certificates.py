"""What Envoy must not be given: pairs that do not match, or are not valid now."""

from pathlib import Path

import pytest
from cryptography import x509

from headrace.state.certificates import bundle_end, pair_end
from tests.libs.hop.hop_certificates import Authority


def test_what_cannot_be_served_is_told(tmp_path: Path) -> None:
    made = Authority(tmp_path)
    pair = made.issue("door", "localhost")
    chain, key, ca = (path.read_bytes() for path in (pair.certificate, pair.key, pair.ca))
    now = x509.load_pem_x509_certificate(chain).not_valid_before_utc.timestamp() + 60
    day = 86400
    assert pair_end(chain, key, now) == bundle_end(ca, now) == pytest.approx(now + 2 * day - 60)
    for wrong, why in (
        ((chain, made.issue("other", "x").key.read_bytes(), now), "does not belong"),
        ((chain, key, now + 2 * day), "has expired"),
        ((chain, key, now - day), "not valid before"),
        ((b"", key, now), "PEM"),
        ((chain, b"", now), "PEM"),
    ):
        with pytest.raises(ValueError, match=why):
            pair_end(*wrong)
    with pytest.raises(ValueError, match="every CA has expired"):
        bundle_end(ca, now + 2 * day)
    with pytest.raises(ValueError, match="PEM"):
        bundle_end(key, now)
