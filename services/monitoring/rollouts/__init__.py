"""Rollouts: counts of both arms → evidence → verdict → the next release.

All is pure but `analyser.py` and `handover.py`.
"""
