"""The millpond command."""
