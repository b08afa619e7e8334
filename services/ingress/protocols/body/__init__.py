"""Request bodies: read, decompressed and parsed within limits."""
