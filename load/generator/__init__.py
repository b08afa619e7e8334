"""The load generator: when requests leave, how they are sent, and whether the answers are right."""
