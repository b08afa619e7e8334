"""What it costs to see what the system does."""
