"""The millpond command: it talks to the Kubernetes API alone, never to NATS or to a worker."""
