"""Models out to other libraries: what they export is checked against what the library answers."""
