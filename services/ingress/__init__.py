"""The public door: authentication, quotas, validation, and translation into batches for the router."""
