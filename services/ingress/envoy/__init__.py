"""Envoy around the application: configuration, start, certificates, readiness, drain."""
