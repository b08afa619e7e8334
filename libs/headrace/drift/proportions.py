"""Did a share change? Fisher's exact test of two proportions, without any approximation for small counts."""

from __future__ import annotations

import math


def two_sided_p(bad: int, rows: int, bad_before: int, rows_before: int) -> float:
    """Twice the smaller tail of the hypergeometric distribution, at most 1 (R. A. Fisher 1935).

    Of `rows + rows_before` rows, `bad + bad_before` are bad; under the hypothesis any `rows` of them are as likely to be the
    window. 1 without rows.
    """
    if not rows or not rows_before:
        return 1.0
    other = bad_before / rows_before
    if bad / rows == other:
        return 1.0
    step = 1 if bad / rows > other else -1
    return min(1.0, 2 * _tail(bad, rows, bad + bad_before, rows + rows_before, step))


def _tail(bad: int, rows: int, all_bad: int, everything: int, step: int) -> float:
    """P(X ≥ bad) for step 1, P(X ≤ bad) for step −1; X is hypergeometric."""
    log_first = (
        _log_choose(all_bad, bad)
        + _log_choose(everything - all_bad, rows - bad)
        - _log_choose(everything, rows)
    )
    total, term, x = 1.0, 1.0, bad
    # Away from the mean each term is smaller than the one before.
    while term > total * 1e-12:
        term *= _ratio(x, rows, all_bad, everything) if step > 0 else _inverse(x, rows, all_bad, everything)
        total += term
        x += step
    return min(1.0, math.exp(min(log_first, 0.0)) * total)


def _ratio(x: int, rows: int, all_bad: int, everything: int) -> float:
    """P(x + 1) / P(x); 0 at the end of what is possible."""
    above = (all_bad - x) * (rows - x)
    return above / ((x + 1) * (everything - all_bad - rows + x + 1)) if above > 0 else 0.0


def _inverse(x: int, rows: int, all_bad: int, everything: int) -> float:
    """P(x − 1) / P(x); 0 at the end of what is possible."""
    below = x * (everything - all_bad - rows + x)
    return below / ((all_bad - x + 1) * (rows - x + 1)) if below > 0 else 0.0


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
