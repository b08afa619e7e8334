"""Checks that need no request: against models and features, and of whole numbers."""
