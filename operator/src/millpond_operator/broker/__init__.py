"""What the operator does with NATS, and the only place where it is imported."""
