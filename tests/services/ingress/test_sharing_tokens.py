"""What one door was lent of a bucket no other door has, by a real Redis."""

from services.ingress.documents.catalog import Tenant
from tests.services.ingress.test_ingress_sharing import tenant
from tests.services.ingress.test_sharing_leases import LIMIT, Sharer, doors

__all__ = ["doors"]  # a fixture


async def all_rows(door: Sharer, who: Tenant) -> int:
    """The rows that a door lets through of more than there are, in a moment with three exchanges."""
    let = 0
    for _ in range(3):
        let += sum(door.passes(who) for _ in range(2 * LIMIT))
        await door.look()
    return let


async def test_tokens_are_lent_to_one_door_at_a_time(doors: list[Sharer]) -> None:
    who, (one, two) = tenant(rows_per_s=0.001, rows_burst=LIMIT), doors
    assert one.passes(who) == 1
    await one.look()  # it has all that is left
    assert two.passes(who) == 1  # before its first exchange it may
    await two.look()
    assert await all_rows(two, who) == 0
    assert await all_rows(one, who) == LIMIT - 1
    # A debt of all.
    for _ in range(3):
        one.now[0] += 0.5
        assert await all_rows(two, who) + await all_rows(one, who) == 0


async def test_tokens_that_a_door_does_not_use_go_to_the_others(doors: list[Sharer]) -> None:
    who, (one, two) = tenant(rows_per_s=0.001, rows_burst=LIMIT), doors
    for door in doors:
        assert door.passes(who) == 1
        await door.look()
    one.now[0] += 0.5
    assert await all_rows(two, who) == LIMIT - 2
    # It has heard of nothing since it had nearly all: what it may take is its local part of that, once.
    assert await all_rows(one, who) == (LIMIT - 1) // 2
    for _ in range(3):
        one.now[0] += 0.5
        assert await all_rows(two, who) + await all_rows(one, who) == 0
