"""The online stores that are read, and their registry."""
