"""Idempotency keys: a call that is repeated with its key is answered as before, not run again."""
