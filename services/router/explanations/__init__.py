"""Explanations of predictions: what each column added to an output. They run after the answer or on request, below live calls."""
