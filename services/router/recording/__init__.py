"""Records what was answered, with inputs and feature values, so that it can be replayed against a candidate."""
