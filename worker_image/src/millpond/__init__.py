"""Millpond SDK and worker runtime."""
