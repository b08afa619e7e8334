"""The audit of an installation: its keys, its settings, who witnesses it."""
