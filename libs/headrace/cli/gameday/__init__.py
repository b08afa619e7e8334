"""Faults on purpose, each with what must come of it: an alert, at most so much loss, recovery by itself.

`expectation` and `figures` are shared with tests/chaos, which provokes what a running system can't be asked to bear.
"""
