"""Labelled images: reading, augmenting, batching, scoring."""
