"""The RPCs of the door: proto → domain → proto."""
