"""Steps from a model's scores to calibrated probabilities. All compute in float64."""

from __future__ import annotations

import numpy as np

from headrace.steps.builtin.scaling import Elementwise
from headrace.steps.frame import Floats
from headrace.steps.options import Options

# Probabilities are kept at least this far from 0 and 1, so that their logarithm is finite.
_EDGE = 1e-12


def sigmoid(options: Options) -> Elementwise:
    """`sigmoid: {column(s), into?}`: 1 / (1 + e^−x)."""
    return Elementwise(options.targets(), _sigmoid)


def softmax(options: Options) -> Elementwise:
    """`softmax: {column(s), into?}`: over the last dimension of a row."""
    return Elementwise(options.targets(), _softmax)


def calibrate(options: Options) -> Elementwise:
    """`calibrate: {column(s), method, …, into?}`.

    `platt` with `a`, `b`: sigmoid(a × score + b). `isotonic` with `x`, `y`: straight lines between the knots,
    constant outside. `temperature` with `t`: what softmax(logits / t) would have given, computed from probabilities.
    """
    targets = options.targets()
    method = options.choice("method", ["platt", "isotonic", "temperature"])
    if method == "platt":
        a, b = options.number("a"), options.number("b")
        return Elementwise(targets, lambda x: _sigmoid(a * x + b))
    if method == "isotonic":
        knots, heights = _knots(options)
        return Elementwise(targets, lambda x: np.asarray(np.interp(x, knots, heights)))
    t = options.number("t")
    if t <= 0:
        raise options.error("t", "should be above 0")
    return Elementwise(targets, lambda x: _with_temperature(x, t))


def _knots(options: Options) -> tuple[Floats, Floats]:
    x, y = np.array(options.numbers("x")), np.array(options.numbers("y"))
    if len(x) != len(y):
        raise options.error("y", f"should have one height per knot: {len(x)}")
    if (x[1:] <= x[:-1]).any():
        raise options.error("x", "should ascend")
    if (y[1:] < y[:-1]).any():
        raise options.error("y", "should not descend")
    return x, y


def _sigmoid(x: Floats) -> Floats:
    # e^−|x| does not overflow, whatever the sign of x.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _softmax(x: Floats) -> Floats:
    if x.ndim < 2:
        return np.ones_like(x)
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Floats = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def _with_temperature(probabilities: Floats, t: float) -> Floats:
    p = np.minimum(np.maximum(probabilities, _EDGE), 1 - _EDGE)
    if p.ndim < 2:
        return _sigmoid((np.log(p) - np.log1p(-p)) / t)
    return _softmax(np.log(p) / t)
