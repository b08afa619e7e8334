"""Files of events (Parquet), and the process of its own that reads and writes them, with bounds on its memory and its time."""
