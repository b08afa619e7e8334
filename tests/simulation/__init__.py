"""hop's real client and server in one event loop of virtual time: no socket, no thread, no waiting. See README.md."""
