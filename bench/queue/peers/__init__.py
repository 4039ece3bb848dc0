"""One program for each contender, run in an environment of its own: nothing here imports anything of the workspace."""
