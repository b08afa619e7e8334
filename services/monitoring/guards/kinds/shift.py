"""Whether the answers themselves are others: by how much the share of a range of values rose, not only how surely.

With the usual margin of a half, half a standard deviation (a PSI of about 0.25) is found, a fifth (0.04) is not.
"""

from __future__ import annotations

import numpy as np

from headrace.drift.stability import stability
from services.monitoring.guards.answers import BINS, ELEMENTS, Answers, Plan
from services.monitoring.guards.guard import Setting
from services.monitoring.guards.parts import PartsGuard


class Shift(PartsGuard):
    """Of all rows."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._counts = np.zeros((2, ELEMENTS, BINS), np.int64)

    def answered(self, share: float, live: Answers, canary: Answers) -> None:
        """See Guard."""
        if self._plan is not (canary.plan or live.plan or self._plan):
            # Other bins: evidence stays evidence, but their counts are no continuation.
            self._counts[:] = 0
        self._counts += np.stack([live.values[0], canary.values[0]])
        super().answered(share, live, canary)

    def summary(self) -> str:
        """See PartsGuard."""
        plan = self._plan or Plan()
        changes = [stability(*(c[i].tolist() for c in self._counts)) for i in range(len(plan.elements))]
        if not changes:
            return self.missing
        most = int(np.argmax(changes))
        return f"answers changed by a PSI of {changes[most]:.3f} ({plan.element(most)}, the most of {len(changes)})"


make = Shift
