"""Golden files of public names. `python -m tests.golden` renews them."""
