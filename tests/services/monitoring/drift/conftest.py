"""The baseline that drift is judged by."""

import numpy as np
import pytest

from headrace.drift import Baseline, Choices, baseline_of
from tests.libs.drift.training import draw


@pytest.fixture(scope="package")
def baseline() -> Baseline:
    return baseline_of(draw(20_000, np.random.default_rng(2)), Choices(outputs=["probability"]))
