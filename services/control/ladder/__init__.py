"""Moves rollouts along their ladder: by verdicts of whoever judges them, and by the clock."""
