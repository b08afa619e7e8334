"""What monitoring costs: counts, events, sketches, the audit log."""
