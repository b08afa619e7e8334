"""The commands, a folder for each group of them; `headrace.cli.main` puts them together."""
