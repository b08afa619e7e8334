"""Commands that send one request, or show what became of it."""
