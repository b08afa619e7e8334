"""What a service's process has besides its service: signals, logs, metrics, traces, memory."""
