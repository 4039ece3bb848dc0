"""The worker runtime: `python -m millpond.worker`.

`runtime` composes the rest. Messages come in by `pulls`, each becomes an `attempt` that asks `outcomes` what to do
and has `journal` write it; handlers run in `executors`, never in the main loop; `keeper` holds the leases and sends
heartbeats from a thread of its own; `board` is what all of them show and see.
"""
