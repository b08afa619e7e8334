"""The steps that headrace brings."""
