"""Gathers what routers count and what becomes known of predictions."""
