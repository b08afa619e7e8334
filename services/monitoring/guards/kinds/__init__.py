"""One file a guard: `make(setting)` makes it."""
