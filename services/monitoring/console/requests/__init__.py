"""One request: its trace, and what is known of each of its predictions."""
