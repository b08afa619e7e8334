"""The features service by itself, and what its stage adds to a request."""
