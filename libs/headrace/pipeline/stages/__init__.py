"""The kinds of stages: one file each, and the registry of them."""
