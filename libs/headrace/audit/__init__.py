"""The audit: one chain of lines in control's database, journals whose batches it names, and heads of it that others hold."""
