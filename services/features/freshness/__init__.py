"""Decides which rows may be used, by their age and source; computes on-demand features from them."""
