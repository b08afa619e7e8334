"""What a service needs that runs steps: both processing services are made of it."""
