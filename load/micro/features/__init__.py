"""The features service by itself, beside Feast's own server."""
