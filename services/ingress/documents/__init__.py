"""The documents that the ingress follows: tenants and pipelines."""
