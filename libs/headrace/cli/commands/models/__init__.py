"""`headrace models`: the model repository, and what the executors serve."""
