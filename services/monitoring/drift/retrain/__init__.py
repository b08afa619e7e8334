"""The retrain trigger: when one is due, and how a command and a webhook are told."""
