"""Tells the monitoring service of each prediction, beside the requests; writes those that are regulated to a journal first."""
