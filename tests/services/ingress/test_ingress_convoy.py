"""Who joins in one turn of the loop leaves together, behind all that was ready in it."""

import asyncio

from services.ingress.protocols.grpc.unary import Convoy


async def test_all_of_a_turn_leave_one_after_another() -> None:
    convoy, seen = Convoy(), list[str]()

    async def reply(name: str) -> None:
        seen.append(f"{name} ready")
        await convoy.join()
        seen.append(f"{name} leaves")

    await asyncio.gather(*map(reply, "abc"))
    assert seen == [f"{n} ready" for n in "abc"] + [f"{n} leaves" for n in "abc"]
    await reply("d")
    assert seen[-1] == "d leaves"


async def test_one_that_is_given_up_holds_up_nobody() -> None:
    convoy, left = Convoy(), list[str]()

    async def reply(name: str) -> None:
        await convoy.join()
        left.append(name)

    first, second = asyncio.create_task(reply("a")), asyncio.create_task(reply("b"))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert left == ["b"]
    assert first.cancelled()
