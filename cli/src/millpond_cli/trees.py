"""Supervisors, pools and workers of a namespace as one tree: from their JSON objects to lines and plain data. Pure.

Owns who stands below whom: what supervisors' statuses say (a child has one parent, and the operator decides which);
pools that nobody supervises stand beside the roots. It reads objects tolerantly: a status that has not been written yet
shows as blanks, never as an error.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millpond_api.v1alpha1.supervisor import is_pool, name_in
from rich.text import Text
from rich.tree import Tree

from millpond_cli.rows import STYLES, Object, age, shorten, status_of

RESTARTS_SHOWN = 3
MESSAGE_LENGTH = 100


@dataclass(frozen=True)
class Found:
    """The objects of a namespace, as they were listed."""

    supervisors: list[Object]
    pools: list[Object]
    workers: list[Object]


@dataclass
class Branch:
    """One object with what stands below it. `lines` are what else is worth saying of it."""

    kind: str
    name: str
    state: str = ""
    says: str = ""
    lines: list[str] = field(default_factory=list)
    below: list["Branch"] = field(default_factory=list)

    def to_data(self) -> dict[str, Any]:
        """For `-o json`."""
        plain = {"kind": self.kind, "name": self.name, "state": self.state, "says": self.says, "lines": self.lines}
        return plain | {"children": [branch.to_data() for branch in self.below]}


def make_branches(found: Found, now: datetime, name: str = "") -> list[Branch]:
    """The trees, roots first; only that of supervisor `name` if given (none when there is no such supervisor)."""
    supervisors = {item["metadata"]["name"]: item for item in found.supervisors}
    pools = {item["metadata"]["name"]: item for item in found.pools}
    supervised: set[str] = set()

    def supervisor(item: Object) -> Branch:
        branch = _supervisor_branch(item, now)
        for child in status_of(item).get("children") or []:
            branch.below.append(_child(child))
        return branch

    def _child(child: Object) -> Branch:
        called, state = name_in(child["name"]), str(child.get("state", ""))
        objects = pools if is_pool(child["name"]) else supervisors
        if state in ("Missing", "Refused") or called not in objects:
            return Branch(child["name"].partition("/")[0], called, state, str(child.get("message", "")))
        if not is_pool(child["name"]):
            return supervisor(supervisors[called])
        supervised.add(called)
        return _pool_branch(pools[called], found.workers, state)

    if name:
        return [supervisor(supervisors[name])] if name in supervisors else []
    roots = [item for item in found.supervisors if not status_of(item).get("parent")]
    branches = [supervisor(item) for item in _by_name(roots)]
    free = [item for item in _by_name(found.pools) if item["metadata"]["name"] not in supervised]
    return [*branches, *(_pool_branch(item, found.workers, "") for item in free)]


def draw(branch: Branch) -> Tree:
    """For a terminal or a pipe."""
    tree = Tree(_label(branch), guide_style="dim")
    _grow(tree, branch)
    return tree


def _grow(tree: Tree, branch: Branch) -> None:
    for line in branch.lines:
        tree.add(Text(line, "dim", no_wrap=True, overflow="ellipsis"))
    for below in branch.below:
        _grow(tree.add(_label(below)), below)


def _label(branch: Branch) -> Text:
    label = Text(no_wrap=True, overflow="ellipsis")
    label.append(f"{branch.kind}/{branch.name}")
    if branch.state:
        label.append("  ").append(branch.state, STYLES.get(branch.state, ""))
    if branch.says:
        label.append(f"  {branch.says}", "dim")
    return label


def _supervisor_branch(item: Object, now: datetime) -> Branch:
    spec, status = item.get("spec") or {}, status_of(item)
    counts = f"{status.get('restarts', 0)} of {spec.get('intensity', '?')} restarts in {spec.get('period', '?')}"
    says = f"{spec.get('strategy', '')}, {counts}"
    branch = Branch("supervisor", item["metadata"]["name"], str(status.get("state", "")), says)
    why = next((c.get("message") for c in status.get("conditions") or [] if c["type"] == "Degraded"), "")
    if why:
        branch.lines.append(str(why))
    entries = status.get("lastRestarts") or []
    branch.lines += [_restart_line(entry, now) for entry in entries[:RESTARTS_SHOWN]]
    return branch


def _restart_line(entry: Object, now: datetime) -> str:
    """`12s ago: workerPool/a: OOMKilled (worker a-x, exit code 137, ran t1): the container used …`."""
    facts = [f"worker {entry['worker']}"] if entry.get("worker") else []
    if entry.get("exitCode") is not None:
        facts.append(f"exit code {entry['exitCode']}")
    if entry.get("tasks"):
        facts.append(f"ran {', '.join(entry['tasks'])}")
    where = f" ({', '.join(facts)})" if facts else ""
    said = f": {entry['message']}" if entry.get("message") else ""
    line = f"{age(entry.get('at'), now)} ago: {entry.get('child', '')}: {entry.get('reason', '')}{where}{said}"
    return shorten(line, MESSAGE_LENGTH + 60)


def _pool_branch(item: Object, workers: Iterable[Object], state: str) -> Branch:
    status, name = status_of(item), item["metadata"]["name"]
    says = f"{status.get('readyReplicas', 0)}/{status.get('desired', 0)} workers, lag {status.get('lag', 0)}"
    branch = Branch("pool", name, state or str(status.get("mode", "")), says)
    paused: Object = next((c for c in status.get("conditions") or [] if c["type"] == "Paused"), {})
    if paused.get("status") == "True" and paused.get("message"):
        branch.lines.append(str(paused["message"]))
    mine = _by_name(one for one in workers if one["spec"].get("pool") == name)
    branch.below = [_worker_branch(one) for one in mine]
    return branch


def _worker_branch(item: Object) -> Branch:
    status = status_of(item)
    said = ": ".join(filter(None, (str(status.get("reason", "")), str(status.get("message", "")))))
    return Branch("worker", item["metadata"]["name"], str(status.get("state", "")), shorten(said, MESSAGE_LENGTH))


def _by_name(items: Iterable[Object]) -> list[Object]:
    return sorted(items, key=lambda item: str(item["metadata"]["name"]))
