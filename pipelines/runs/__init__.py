"""The folder of a run: config, checkpoints, weights, logs, export."""
