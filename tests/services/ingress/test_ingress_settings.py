"""Settings of the door that contradict each other."""

from pathlib import Path

import pytest

from services.ingress.config import Http


def test_a_ca_of_clients_without_tls_is_refused() -> None:
    with pytest.raises(ValueError, match="client_ca"):
        Http(client_ca=Path("ca.pem"))
