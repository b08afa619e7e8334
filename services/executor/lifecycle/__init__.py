"""Versions of models: loaded, woken, unloaded, quarantined."""
