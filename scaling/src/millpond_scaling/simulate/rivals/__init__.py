"""Other scalers' published formulas, each with the version and the place that it was read from.

Owns no code of theirs: the rules are written anew from what the sources and documents say. Where a rule leaves a
choice, the one that is better for the rival was taken, and its module says so.
"""
