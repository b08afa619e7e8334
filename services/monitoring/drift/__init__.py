"""Drift and data quality: windows of what was asked and answered, judged against the baselines of the models."""
