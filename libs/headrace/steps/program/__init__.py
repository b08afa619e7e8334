"""From a specification to a program, and a run of it over a batch."""
