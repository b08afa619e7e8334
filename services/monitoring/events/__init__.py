"""Keeps prediction events: takes them from routers, stores them in segments, finds and erases them."""
