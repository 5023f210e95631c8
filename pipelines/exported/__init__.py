"""SavedModels as they lie on disk, and what a program prints of them."""
