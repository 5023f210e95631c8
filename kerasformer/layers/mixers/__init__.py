"""Layers through which the positions of a sequence exchange what they know."""
