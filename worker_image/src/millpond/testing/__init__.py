"""Tests of handlers without a server."""
