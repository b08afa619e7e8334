"""`headrace encryption`: the keys that a home's files are sealed with."""
