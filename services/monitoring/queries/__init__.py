"""Questions about stored events that operators ask: SQL, and what is said of the answer."""
