"""Where control is, as a text says it."""

import re

import pytest

from headrace.catalog.remote import RemoteRecords, TargetError


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("", "name where control is"),
        ("nowhere", "is not host:port"),
        ("unix-dir:relative", "absolute path"),
        ("unix:/s?more=1", "more is no option"),
        ("h:1?ca=/ca.pem", "belong together"),
        ("h:1?ca", "can't be read"),
    ],
)
def test_a_target_that_is_none_is_refused_with_what_is_wrong(target: str, problem: str) -> None:
    with pytest.raises(TargetError, match=re.escape(problem)):
        RemoteRecords(target)


def test_a_target_names_certificates() -> None:
    records = RemoteRecords("dns:control:7100?ca=/ca.pem&certificate=/c.pem&key=/k.pem&server_name=control")
    with pytest.raises(OSError, match="certificates"):
        records.position()
    records.close()
