"""A tenant that requires encryption at rest is refused, unless the operators attest it for today. That no body is read before:
test_ingress_intake.py."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from headrace.access.specs import QuotaSpec
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.auth.encryption_guard import EncryptionGuard
from services.ingress.documents.catalog import Tenant
from tests.services.ingress.ingress_calls import infer, infer_refused
from tests.services.ingress.ingress_door import Folder, infer_request, running

REFUSED = ("FAILED_PRECONDITION", "ENCRYPTION_REQUIRED")
DAY = date(2027, 3, 1)


@pytest.mark.asyncio(loop_scope="session")
async def test_an_attestation_counts(door: Folder, tmp_path: Path) -> None:
    request = infer_request([[1, 2]], [3])
    code, reason, message = await infer_refused(door, request, key=door.keys.encrypted)
    assert (code, reason) == REFUSED
    assert "tenant encrypted requires encryption at rest" in message
    # Two days, so that midnight may pass meanwhile.
    until = datetime.now(UTC).date() + timedelta(days=2)
    async with running(tmp_path, encrypted_until=until) as process:
        keys = process.folder.keys
        for key in (keys.encrypted, keys.demo):
            assert (await infer(process.folder, request, key=key)).model_name == "double"


@pytest.mark.parametrize(
    ("until", "at", "refused"),
    [
        (DAY, datetime(2027, 3, 1, 23, 59, 59, tzinfo=UTC), False),
        (DAY, datetime(2027, 3, 2, tzinfo=UTC), True),
        (date.max, datetime(2027, 3, 2, tzinfo=UTC), False),
        (None, datetime(2027, 3, 1, tzinfo=UTC), True),
    ],
)
def test_the_day_ends_at_midnight_utc(until: date | None, at: datetime, refused: bool) -> None:
    guard = EncryptionGuard(until, at.timestamp)
    requiring = Tenant("acme", frozenset(), QuotaSpec(), 1, requires_encryption=True)
    if not refused:
        return guard.check(requiring)
    with pytest.raises(Fault) as caught:
        guard.check(requiring)
    told = caught.value
    assert (told.code, told.reason) == (Code.FAILED_PRECONDITION, Reason.REASON_ENCRYPTION_REQUIRED)
    assert told.metadata == {"tenant": "acme"}
    return None
