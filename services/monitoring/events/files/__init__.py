"""Files of events (Parquet), and the process of its own that reads and writes them: its memory, its threads and its time are bounded."""
