"""The executor: runs models over batches."""
