"""This version against the last landed one: both on one machine, asked in turns."""
