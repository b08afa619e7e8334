"""The commands, one file each; `headrace.cli.main` puts them together."""
