"""Questions about a whole system: how fast, under which load, at what loss."""
