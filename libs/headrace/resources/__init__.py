"""What a process of the data plane follows, so that it serves by what it has: without control, database or Redis."""
