"""The RPCs of our own API: rows or columns in, one result per row out."""
