"""What to read for a feature service: plans compiled from the registry, and the entity keys of a batch."""
