"""When rows run, and in which runs: pure state machines."""
