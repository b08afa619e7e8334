"""Rollouts: counts of both arms → evidence → verdict → the next release. All but `analyser.py` and `lease.py` is pure."""
