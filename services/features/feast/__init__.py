"""The parts that depend on Feast: its registry, its on-demand views, its storage layout."""
