"""What is recorded of requests: metrics, log lines, statistics, traces, security events."""
