"""What is live and who may: the only process that opens the database `control`."""
