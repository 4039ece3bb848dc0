"""pickle, between two sides that trust each other: loading one runs whatever its writer put into it.

It must be reached only after `codecs.check_codec`.
"""

import pickle

from millpond.codecs.plain import PlainCodec

PROTOCOL = 5
"""Fixed, so that the newer Python of two reads and writes what the older one can."""


def make() -> PlainCodec:
    return PlainCodec("pickle", lambda value: pickle.dumps(value, protocol=PROTOCOL), pickle.loads)
