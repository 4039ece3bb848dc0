"""Who is whose child among the supervisors and pools of a namespace: pure.

Owns what no schema can see: a child has one parent, nobody is his own ancestor, and a child that does not exist is no
child until it does. Of two supervisors that name the same child the older one has it (by creation, then by name), so
that a newcomer changes nothing; whoever goes without is told so in a sentence. Nothing is refused as a whole.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from millpond_api.v1alpha1.supervisor import SupervisorChild, SupervisorSpec, is_pool, name_in


@dataclass(frozen=True)
class Declared:
    """A Supervisor object: what a person wrote. `made` orders by age; `reset` is its annotation."""

    name: str
    uid: str
    made: str
    spec: SupervisorSpec
    generation: int = 0
    reset: str = ""


@dataclass
class Family:
    """What became of the children that were named, by supervisor."""

    children: dict[str, list[SupervisorChild]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, dict[str, str]] = field(default_factory=dict)
    """Children that another one has, or that would close a circle: each with the sentence."""
    parents: dict[str, str] = field(default_factory=dict)
    """Child id → its supervisor's name."""

    def ancestors(self, name: str) -> list[str]:
        """The supervisors above this one, the nearest first."""
        found = []
        while (name := self.parents.get(f"supervisor/{name}", "")) != "":
            found.append(name)
        return found


def make_family(declared: Iterable[Declared], pools: Collection[str]) -> Family:
    """The family of one namespace; `pools` are the names of the pools that exist."""
    supervisors = sorted(declared, key=lambda one: (one.made, one.name))
    names = {one.name for one in supervisors}
    family = Family()
    for one in supervisors:
        children: list[SupervisorChild] = []
        missing: list[str] = []
        refused: dict[str, str] = {}
        for child in one.spec.children:
            if name_in(child.id) not in (pools if is_pool(child.id) else names):
                missing.append(child.id)
            elif why := _refuse(family, one.name, child.id):
                refused[child.id] = why
            else:
                family.parents[child.id] = one.name
                children.append(child)
        family.children[one.name], family.missing[one.name], family.refused[one.name] = children, missing, refused
    return family


def _refuse(family: Family, parent: str, child: str) -> str:
    """Why `parent` can't have the child; empty when it can."""
    other = family.parents.get(child)
    if other is not None:
        return f"{child} is a child of supervisor {other} already: take it out of one of them"
    if not is_pool(child) and name_in(child) in (parent, *family.ancestors(parent)):
        return f"{child} stands above supervisor {parent}: nobody is a child of his own child"
    return ""
