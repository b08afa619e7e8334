"""Pipeline documents: YAML entries that know their line, what they mean, and a folder that is read again."""
