"""Weights of other libraries in, and models out to other libraries."""

from kerasformer.interop.loading import Loaded, load

__all__ = ["Loaded", "load"]
