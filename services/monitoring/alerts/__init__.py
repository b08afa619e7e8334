"""What fires, as monitoring knows it without Prometheus: burn rates, and alerts of plain thresholds."""
