"""The page that shows exported models."""
