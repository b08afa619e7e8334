"""Delivery of services: a registry folder, signatures, manifests of versions, deployments and their record."""
