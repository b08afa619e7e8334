"""Files that processes share: who has one now, and what an earlier version made of them."""
