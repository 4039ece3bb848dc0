"""The weights of a pool's priority classes: pure, shared by operator and worker.

Owns what a class weighs that was given no weight.
"""

from collections.abc import Mapping, Sequence


def class_weights(classes: Sequence[str], given: Mapping[str, int]) -> dict[str, int]:
    """The weight of each class, in priority order; at least 1.

    Where none is given, a class weighs twice the next one, so that the order of plain names means something and no
    class starves. Where some are given, the others weigh 1.
    """
    if any(name in given for name in classes):
        return {name: given.get(name, 1) for name in classes}
    return {name: 2 ** (len(classes) - 1 - place) for place, name in enumerate(classes)}
