"""What a stage of several models gave, in short."""

from services.router.stages.runner import StageResult


def values(result: StageResult) -> list[float]:
    [column] = result.columns
    return [round(v, 4) for v in column.array.tolist()]


def masks(result: StageResult) -> dict[str, list[bool]]:
    return {name: mask.tolist() for name, mask in result.fallbacks.items()}
