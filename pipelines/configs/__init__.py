"""One config a file; each docstring carries the command, the time, the machine, the result."""
