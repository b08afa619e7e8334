"""The features service beside Feast's own server, and what its stage adds to a request."""
