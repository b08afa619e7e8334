"""Feature events of a Redis Stream, written into the online store."""
