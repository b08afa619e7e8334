"""Counts what each arm answered, and reports it to the monitoring service each second."""
