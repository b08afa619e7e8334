"""What operators ask a running system through its door."""
