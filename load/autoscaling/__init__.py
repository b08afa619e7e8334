"""Kubernetes' autoscaler around a queue: how the sizes that `deploy/kubernetes` asks for would follow a load."""
