"""What tells of persons: segments that can be deleted, and who deletes what of them."""
