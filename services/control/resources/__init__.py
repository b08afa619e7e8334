"""ResourcesService: what the data plane follows, who has what of it, and who may apply it first."""
