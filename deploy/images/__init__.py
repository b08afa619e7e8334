"""Container images: one a service, from Debian's packages and the part of the lock that the service needs."""
