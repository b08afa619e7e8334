"""One model at work: calls to runs, runs to results."""
