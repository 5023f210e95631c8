"""Measurements of speed, ours and that of peers."""
