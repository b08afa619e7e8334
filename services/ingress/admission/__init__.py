"""Which requests are admitted: admission control, quotas, extraction guard. See LIMITERS.md."""
