"""What fires now, what to do about it, and keeping it quiet for a while."""
