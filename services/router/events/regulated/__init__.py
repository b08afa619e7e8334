"""Events of regulated predictions: on the disk before the answer leaves, and from there to the monitoring service."""
