"""What predictions cost: measured, divided among those who caused it, kept by hour."""
