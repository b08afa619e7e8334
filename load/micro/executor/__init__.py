"""The executor within one process; run as `python -m load executor`."""
