"""A tenants document that is broken when the door starts: the last good one is in force, until it is mended."""

from pathlib import Path

import pytest

from headrace.hop import testing
from tests.services.ingress.ingress_calls import infer, infer_refused
from tests.services.ingress.ingress_door import FakeRouter, definition, infer_request, prepare, started
from tests.services.waiting import until

REQUEST = infer_request([[1, 2]], [1])


@pytest.mark.parametrize("text", ["tenants: {demo: [", "tenants: {demo: {limits: {rows_per_s: -1}}}", "\0"])
async def test_the_last_good_one_is_in_force_over_a_kill(tmp_path: Path, text: str) -> None:
    async with testing.served(definition(FakeRouter())) as harness:
        door = prepare(tmp_path, harness.target, tenants_kept=str(tmp_path / "kept" / "tenants.yaml"))
        tenants = tmp_path / "tenants.yaml"
        good = tenants.read_bytes()
        for content in (good, text.encode()):
            tenants.write_bytes(content)
            async with started(door) as process:
                assert (await infer(door, REQUEST)).model_name == "double"
                assert (await infer_refused(door, REQUEST, key="hr_made_up"))[0] == "UNAUTHENTICATED"
                if content != good:
                    assert "tenants not loaded; the last good ones are in force" in process.log()
                    assert door.sample("headrace_ingress_tenants_broken") == 1
                    tenants.write_bytes(good)
                    await until(lambda: door.sample("headrace_ingress_tenants_broken") == 0)
                    await infer(door, REQUEST)
    assert (tmp_path / "kept" / "tenants.yaml").stat().st_mode & 0o777 == 0o600
