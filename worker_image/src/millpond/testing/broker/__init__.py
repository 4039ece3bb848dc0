"""A message broker in this process that speaks what Millpond uses of NATS and JetStream.

Each module holds one part of a server: `routing` (core publish and subscribe), `store` and `stream` (what is kept),
`consumer` (pull requests and acks), `schedules`, `batches`, `sources`, `reading` (direct get), `api` ($JS.API), `link`
(a client's connection) and `server`, which ties them together. What each does was measured on a real nats-server and
is compared with one by `tests/broker/test_memory_differential.py`.
"""
