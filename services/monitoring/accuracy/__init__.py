"""How often each version was right: predictions of all live releases joined with the outcomes that came later."""
