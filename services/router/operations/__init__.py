"""What operators do: replace pipeline documents, load and unload models."""
