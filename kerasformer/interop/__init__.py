"""Exports of models to other libraries, checked against the outputs of the model."""
