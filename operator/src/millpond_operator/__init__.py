"""The Millpond operator."""
