"""The RPCs of the Open Inference Protocol: messages to columns, and results to messages."""
