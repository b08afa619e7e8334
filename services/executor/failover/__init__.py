"""A model's backends in order of preference: health, switch-over, comparison."""
