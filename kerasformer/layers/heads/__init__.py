"""Heads: layers that leave the world of sequences."""
