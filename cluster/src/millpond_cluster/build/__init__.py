"""Making what a cluster runs: Go programs, Debian packages, base images, the project's images.

Knows no running cluster.
"""
