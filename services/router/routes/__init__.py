"""Which route each row takes, how a route runs, and how the answers of several become one."""
