"""`scaling`: one thing grows, the others stay; a file for each thing."""
