"""What a supervisor's status says: made whole from its node and its place in the family. Pure."""

from datetime import UTC, datetime

from millpond_api.v1alpha1 import SupervisorStatus
from millpond_api.v1alpha1.supervisor import SupervisorChildStatus, is_pool, name_in, supervisor_id

from millpond_operator.decisions.conditions import Fact, make_conditions
from millpond_operator.decisions.family import Declared
from millpond_operator.decisions.orders import Ask, Node, Order, freeze_node
from millpond_operator.decisions.supervising import Trees

RUNNING, RESTARTING, PAUSING, PAUSED, DEGRADED = "Running", "Restarting", "Pausing", "Paused", "Degraded"


def decide_state(trees: Trees, node: Node) -> str:
    """The supervisor's state in one word."""
    machine = node.machine
    if machine.ended:
        return PAUSED if supervisor_id(node.name) in trees.family.parents else DEGRADED
    if machine.ending:
        return PAUSING
    return RESTARTING if machine.pending or node.quiet else RUNNING


def make_status(trees: Trees, one: Declared, before: SupervisorStatus, now: int) -> SupervisorStatus:
    """The whole status at `now` (epoch seconds)."""
    node, family = trees.nodes[one.name], trees.family
    state = decide_state(trees, node)
    children = [_child(trees, node, child.id) for child in one.spec.children]
    running = sum(child.state == RUNNING for child in children)
    missing, refused = family.missing[one.name], family.refused[one.name]
    ready = _ready(node, state, [child.name for child in children if child.state != RUNNING])
    facts = [
        ready,
        Fact("Degraded", state == DEGRADED, str(node.machine.ended or "AllWell"), _sentence(node)),
        Fact("ChildrenMissing", bool(missing), "NotFound" if missing else "AllThere", _say_missing(missing)),
        Fact("ChildrenRefused", bool(refused), "NotOurs" if refused else "AllOurs", "; ".join(refused.values())),
    ]
    return SupervisorStatus(
        observed_generation=one.generation,
        state=state,
        reason=_reason(node, missing, refused),
        parent=family.parents.get(supervisor_id(one.name), ""),
        children_running=f"{running}/{len(children)}",
        restarts=node.machine.restarts_at(now),
        children=children,
        last_restarts=node.history,
        memory=freeze_node(node),
        conditions=make_conditions(before.conditions, facts, datetime.fromtimestamp(now, UTC), one.generation),
    )


def _child(trees: Trees, node: Node, child: str) -> SupervisorChildStatus:
    last = next((entry.at for entry in node.history if entry.child == child), None)
    state, text = _child_state(trees, node, child)
    return SupervisorChildStatus(name=child, state=state, message=text, last_restart=last)


def _child_state(trees: Trees, node: Node, child: str) -> tuple[str, str]:
    if child in trees.family.missing[node.name]:
        return "Missing", f"there is no {child.replace('/', ' ')} in the namespace"
    if why := trees.family.refused[node.name].get(child):
        return "Refused", why
    if not is_pool(child):
        below = trees.nodes[name_in(child)]
        return decide_state(trees, below), _sentence(below)
    order = node.orders.get(child, Order())
    if order.ask is Ask.HOLD:
        return PAUSED, order.why
    return (RUNNING if order.ask is Ask.RUN and child not in node.marked else RESTARTING), ""


def _reason(node: Node, missing: list[str], refused: dict[str, str]) -> str:
    if node.machine.ending:
        return str(node.machine.ending)
    return "ChildRefused" if refused else "ChildMissing" if missing else ""


def _ready(node: Node, state: str, waiting: list[str]) -> Fact:
    if node.machine.ending:
        return Fact("Ready", False, str(node.machine.ending), _sentence(node))
    if waiting:
        return Fact("Ready", False, f"Children{state}", f"not running: {', '.join(waiting)}")
    return Fact("Ready", state == RUNNING, state, "all children run" if state == RUNNING else "")


def _sentence(node: Node) -> str:
    if not node.cause:
        return ""
    who, why = node.cause
    return why if who == node.name else f"stopped with supervisor {who}: {why}"


def _say_missing(missing: list[str]) -> str:
    if not missing:
        return ""
    return f"{', '.join(missing)}: not there; each becomes a child when it is made"
