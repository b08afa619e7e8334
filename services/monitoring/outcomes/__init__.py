"""What became known of predictions, which arm made them, and both joined."""
