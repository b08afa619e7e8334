"""Choosing settings of stages by labelled data: the statistics, and running a pipeline's stages without its services."""
