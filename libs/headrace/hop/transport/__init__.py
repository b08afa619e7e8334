"""How a call reaches another process, or a service of this one, and how errors and time travel with it."""
