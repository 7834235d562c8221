"""Tidewell: a reactive backend whose functions are plain Python."""
