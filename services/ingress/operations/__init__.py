"""What operators ask at the door."""
