"""What the router tells the monitoring service: one queue, one sender, one call."""
