"""Faults done for real to a thousand tasks each, and what the logs say became of the tasks. See `__main__`."""
