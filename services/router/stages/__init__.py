"""What runs each kind of stage: one file a kind, and the registry of them."""
