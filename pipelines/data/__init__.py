"""Where data comes from, and how it is shared among replicas."""
