"""Sections of a pipeline's page that the console makes itself."""
