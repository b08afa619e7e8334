"""Rows kept in memory, reads shared by calls, and the fetch that joins both with the store."""
