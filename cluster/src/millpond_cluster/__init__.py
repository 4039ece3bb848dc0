"""A real Kubernetes for development and tests."""
