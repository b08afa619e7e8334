"""What is recorded about requests: metrics, log lines, statistics, traces, security events."""
