"""Explanations of predictions that pipelines demand: stored, shown with their events, compared over groups."""
