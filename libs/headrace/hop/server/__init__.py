"""The server half: from a definition to a running gRPC server, through the server's layers."""
