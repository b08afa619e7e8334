"""Explanations that somebody asks for."""
