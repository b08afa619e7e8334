"""headrace.api.releases.v1: what is live, for operators at the door."""
