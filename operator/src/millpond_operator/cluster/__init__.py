"""What the operator does with the Kubernetes API, and nothing else does."""
