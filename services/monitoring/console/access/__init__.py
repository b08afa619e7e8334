"""Who may use the console: operators and their sessions, attempts to sign in, and the security events of both."""
