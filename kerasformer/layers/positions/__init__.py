"""Layers that tell a sequence where each of its positions lies."""
