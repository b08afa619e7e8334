"""Protects callers from failing or slow replicas: circuit breaker, concurrency limiter, retry, load balancer."""
