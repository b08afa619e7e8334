"""Requests and answers of a pipeline: checks, plain rows, rounding."""
