"""Questions about one part by itself."""
