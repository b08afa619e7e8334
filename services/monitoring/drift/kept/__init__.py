"""Windows and references of error rates on the disk: they outlive this process, and others of this machine read them."""
