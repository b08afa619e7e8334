"""Limits of tenants that the doors of several machines share by a Redis: each door leases a part of them. See README.md."""
