"""What belongs to the audit beside the changes: journals of this machine join its chain, and its head is exported."""
