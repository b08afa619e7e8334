"""What is stored of events, in the database `facts`: streams and which of their numbers came, batches, and the files."""
