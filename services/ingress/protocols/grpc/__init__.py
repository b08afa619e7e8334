"""gRPC and gRPC-Web."""
