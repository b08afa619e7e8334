"""What executor-gpu has beside executor: its lock, and the stage that compiles what has no wheel."""
