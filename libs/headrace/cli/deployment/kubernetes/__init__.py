"""Kustomize: a base of all services, components that a cluster may have or not, and overlays that put them together."""
