"""What changes of releases cost, and how fast bad ones are undone."""
