"""No-op tasks with durable results through one worker process: Millpond beside its peers, in interleaved rounds."""
