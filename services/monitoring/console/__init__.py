"""The operator console: what changed, is it safe, roll back. Pages and the same as JSON, on an address of its own."""
