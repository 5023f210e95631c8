"""From data to a trained model to an exported one."""
