"""HTTP: routes, who is let in, pages and JSON, headers, and the server."""
