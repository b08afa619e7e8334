"""Decodes 1,000 mutated images; prints how many were refused and decoded, and by how many MiB memory grew."""

import random
import resource
from collections.abc import Callable

from headrace.columns import Column
from tests.libs.steps.image_files import GOOD, program


def _flip(data: bytearray, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 8)):
        data[dice.randrange(len(data))] ^= dice.randint(1, 255)


def _header(data: bytearray, dice: random.Random) -> None:
    data[dice.randrange(2, min(64, len(data)))] = dice.choice([0, 1, 0x7F, 0xFF])


def _cut(data: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(data))
    del data[at : at + dice.randint(1, 64)]


def _repeat(data: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(data))
    data[at:at] = data[at : at + dice.randint(1, 4096)]


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [_flip, _header, _cut, _repeat]


def main() -> None:
    """Runs them in batches of 50, each between two good images that must come out right."""
    dice, good, step = random.Random(7), GOOD["png"], program()
    wanted = step.run({"image": Column.of_bytes("image", list(GOOD.values()))}, len(GOOD))
    assert not wanted.errors
    clean = wanted.columns["pixels"].array[list(GOOD).index("png")]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for _ in range(20):
        batch = []
        for _ in range(50):
            data = bytearray(dice.choice(list(GOOD.values())))
            dice.choice(MUTATIONS)(data, dice)
            batch.append(bytes(data))
        result = step.run({"image": Column.of_bytes("image", [good, *batch, good])}, 52)
        assert not result.failures
        assert all(
            0 < row < 51 and error.message.startswith("'image' ") for row, error in result.errors.items()
        )
        pixels = result.columns["pixels"].array
        assert (pixels[[0, 51]] == clean).all()
        refused += len(result.errors)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(refused, 1_000 - refused, grown // 1024)


if __name__ == "__main__":
    main()
