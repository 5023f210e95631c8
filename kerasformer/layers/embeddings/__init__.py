"""Layers that turn token ids and images into sequences."""
