"""Who is let in: admission control, quotas, extraction guard. See LIMITERS.md."""
