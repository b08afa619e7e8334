"""Commands about tenants, their keys, and refused credentials."""
