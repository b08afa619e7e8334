"""Connect, and the streams of all protocols that connectrpc serves."""
