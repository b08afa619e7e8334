"""Training data with columns of all kinds, and windows of the same or of another distribution."""

from typing import Any

import numpy as np

Rng = np.random.Generator


def draw(
    rows: int, rng: Rng, *, shift: float = 0.0, new_category: float = 0.0, nulls: float = 0.01
) -> dict[str, Any]:
    """24 columns: `n3` is shifted by so many standard deviations, `carrier` has a new category with this share, `m` nulls."""
    found: dict[str, Any] = {f"n{i}": rng.normal(size=rows) for i in range(8)}
    found["n3"] += shift
    found |= {f"l{i}": rng.lognormal(size=rows) for i in range(6)}
    found |= {f"p{i}": rng.poisson(2 + i, size=rows) for i in range(4)}
    found["rain"] = np.where(rng.random(rows) < 0.9, 0, rng.exponential(size=rows))
    found["flag"] = rng.random(rows) < 0.3
    found["m"] = np.ma.MaskedArray(rng.normal(size=rows), rng.random(rows) < nulls)
    names = np.array(["UA", "AA", "DL", "B6", "WN"])[rng.choice(5, size=rows, p=[0.4, 0.3, 0.2, 0.07, 0.03])]
    found["carrier"] = np.where(rng.random(rows) < new_category, "ZZ", names).tolist()
    found["tail"] = [f"N{i}" for i in np.minimum(rng.zipf(1.3, size=rows), 5000).tolist()]
    found["probability"] = rng.beta(2, 5, size=rows)
    return found
