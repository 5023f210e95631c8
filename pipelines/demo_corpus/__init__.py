"""The embedded corpus of English and German sentences."""
