"""A cluster of host processes, for machines without a container engine."""
