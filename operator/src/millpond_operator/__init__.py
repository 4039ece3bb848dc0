"""The Millpond operator: observes pools, tasks and workers, decides purely, and applies once."""
