"""`rollouts`: bad versions are rolled back by themselves, good ones promoted, through the ingress at 300 requests a second."""
