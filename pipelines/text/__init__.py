"""Sentence pairs: reading, cleaning, batching, scoring."""
