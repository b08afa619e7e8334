"""What a rollout is judged by: a guard is a file in `kinds/` and a line in `headrace.pipeline.guards.GUARDS`."""
