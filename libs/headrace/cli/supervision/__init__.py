"""The process that keeps the services running, and how the commands reach it."""
