"""What only Feast can do or tell: its registry, its on-demand views, its store layout."""
