"""Tidewell."""
