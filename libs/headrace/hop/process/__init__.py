"""The process around a service: signals, logs, metrics, traces, memory."""
