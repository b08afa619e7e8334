"""Who may do what: tenants, their limits and their keys, as records of control."""
