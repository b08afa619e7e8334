"""Commands that publish a version of the services, deploy it one service at a time, and tell what was deployed."""
