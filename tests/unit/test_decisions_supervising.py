"""Trees of supervisors over pools decide as OTP's machines do that are nested and answer at once."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond_api.supervision import Command, Ended, Exit, Start, Stop
from millpond_api.supervision import Supervisor as Machine
from millpond_api.supervision.records import freeze
from millpond_api.v1alpha1 import SupervisorSpec, SupervisorStatus
from millpond_api.v1alpha1.supervisor import is_pool, name_in, pool_id, supervisor_id
from millpond_operator.decisions.crashes import Crash
from millpond_operator.decisions.family import Declared, Family, make_family
from millpond_operator.decisions.orders import Ask, Order, PoolView, freeze_node, thaw_node
from millpond_operator.decisions.supervising import Trees
from millpond_operator.decisions.supervisor_status import make_status

Spec = dict[str, Any]


def declare(name: str, *children: Any, age: int = 0, reset: str = "", **spec: Any) -> Declared:
    """`"pool:a"` and `"top"` (a supervisor) are children without more to say; dictionaries are as in manifests."""
    whole = [_child(child) for child in children]
    return Declared(
        name, f"uid-{name}", f"{age:04d}", SupervisorSpec.model_validate({"children": whole, **spec}), 1, reset
    )


def _child(child: Any) -> Spec:
    if isinstance(child, dict):
        return child
    return {"workerPool": child[5:]} if child.startswith("pool:") else {"supervisor": child}


@dataclass
class House:
    """The operator's part without Kubernetes: pools do what is asked of them when `settle` is called."""

    declared: list[Declared]
    pools: set[str]
    trees: Trees = field(default_factory=Trees)
    now: int = 1_000
    views: dict[str, PoolView] = field(default_factory=dict)
    number: dict[str, int] = field(default_factory=dict)
    restarts: list[str] = field(default_factory=list)
    """Pools that were restarted, in their order."""

    def __post_init__(self) -> None:
        self.views = {pool: PoolView(wanted=1, ready=1, there=1) for pool in self.pools}
        self.declare()

    def declare(self, *declared: Declared) -> None:
        for one in declared:
            self.declared = [*(known for known in self.declared if known.name != one.name), one]
        self.trees.declare(self.declared, make_family(self.declared, self.pools), self.now)

    def crash(self, pool: str, reason: str = "Error", *, settle: bool = True, token: str | None = None) -> None:
        self.number[pool] = self.number.get(pool, 0) + 1
        crash = Crash(f"{pool}-1", f"uid-{pool}", self.number[pool], reason, token=token or self.views[pool].token)
        for _ in range(2):  # every event may come twice
            self.trees.crash(pool, crash, self.now)
        if settle:
            self.settle()

    def settle(self) -> None:
        """Every pool does what it was asked, until nothing more is asked."""
        while self.step():
            pass

    def step(self) -> bool:
        """All pools do what they are asked now; whether anything was."""
        moved = False
        for pool, order in list(self.trees.orders()):
            if order.ask is Ask.RESTART and self.views[pool].token != order.token:
                self.restarts.append(pool)
            view = do(self.views[pool], order)
            moved |= view != self.views[pool]
            self.views[pool] = view
        before = self.frozen()
        self.trees.look(self.views.__getitem__, self.now)
        return moved or self.frozen() != before

    def frozen(self) -> str:
        return json.dumps({name: freeze_node(node) for name, node in self.trees.nodes.items()})

    def fail_over(self) -> None:
        """Another leader, that knows what stands in the statuses."""
        family = make_family(self.declared, self.pools)
        heir = Trees()
        for one in self.declared:
            written = make_status(self.trees, one, SupervisorStatus(), self.now).to_manifest()
            status = SupervisorStatus.model_validate(json.loads(json.dumps(written)))
            children = [child.to_child() for child in family.children[one.name]]
            memory = status.memory or {}
            heir.nodes[one.name] = thaw_node(
                one.name, one.uid, one.spec.to_flags(), children, memory, status.last_restarts
            )
        before, self.trees = self.frozen(), heir
        self.declare()
        assert self.frozen() == before

    def state(self, name: str) -> str:
        one = next(one for one in self.declared if one.name == name)
        return make_status(self.trees, one, SupervisorStatus(), self.now).state

    def status(self, name: str) -> SupervisorStatus:
        one = next(one for one in self.declared if one.name == name)
        return make_status(self.trees, one, SupervisorStatus(), self.now)

    def paused(self) -> dict[str, str]:
        return {pool: order.why for pool, order in self.trees.orders() if order.ask is Ask.HOLD}


def do(view: PoolView, order: Order) -> PoolView:
    """A pool that does at once what it is asked."""
    if order.ask is Ask.HOLD:
        return replace(view, ready=0, there=0)
    token = order.token if order.ask is Ask.RESTART else view.token
    return replace(view, ready=1, there=1, token=token, phase="Complete")


# ---- the property: nested machines that answer at once


@dataclass
class Nested:
    """OTP's machines alone, one in the other; pools start and stop in no time."""

    specs: dict[str, SupervisorSpec]
    machines: dict[str, Machine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parents = {child.id: name for name, spec in self.specs.items() for child in spec.children}
        for name in self.specs:
            if supervisor_id(name) not in self.parents:
                self.begin(name, 0)

    def begin(self, name: str, now: int) -> None:
        spec = self.specs[name]
        self.machines[name] = Machine.make(spec.to_flags(), [child.to_child() for child in spec.children])
        self.obey(name, self.machines[name].begin(now), now)

    def obey(self, name: str, commands: list[Command], now: int) -> None:
        for command in commands:
            machine = self.machines[name]
            match command:
                case Start(child):
                    if not is_pool(child):
                        self.begin(name_in(child), now)
                    self.obey(name, machine.started(child, now), now)
                case Stop(child):
                    if not is_pool(child):
                        self.stop(name_in(child), now)
                    self.obey(name, machine.exited(child, Exit.SHUTDOWN, now), now)
                case Ended():
                    parent = self.parents.get(supervisor_id(name))
                    if parent and self.machines[parent].running and not self.machines[parent].pending:
                        self.obey(parent, self.machines[parent].exited(supervisor_id(name), Exit.SHUTDOWN, now), now)

    def stop(self, name: str, now: int) -> None:
        self.obey(name, self.machines[name].stop(now), now)

    def crash(self, pool: str, now: int) -> None:
        owner = self.parents[pool_id(pool)]
        child = next(one for one in self.specs[owner].children if one.id == pool_id(pool))
        # The one rule that is not OTP's: Kubernetes starts a Temporary pool again.
        if child.restart != "Temporary" or child.significant:
            self.obey(owner, self.machines[owner].exited(pool_id(pool), Exit.ERROR, now), now)


RESTARTS = ("Permanent", "Transient", "Temporary")


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[Declared], list[str]]:
    """Supervisors of up to three levels, and the names of their pools."""
    pools: list[str] = []
    found: list[Declared] = []

    def grow(name: str, level: int) -> None:
        auto = draw(st.sampled_from(("Never", "AnySignificant", "AllSignificant")))
        children: list[Spec] = []
        for number in range(draw(st.integers(1, 3))):
            restart = draw(st.sampled_from(RESTARTS))
            significant = auto != "Never" and restart != "Permanent" and draw(st.booleans())
            below = f"{name}{number}"
            if level < 2 and draw(st.booleans()):
                grow(below, level + 1)
                child: Spec = {"supervisor": below}
            else:
                pools.append(below)
                child = {"workerPool": below}
            children.append(child | {"restart": restart, "significant": significant})
        strategy = draw(st.sampled_from(("OneForOne", "OneForAll", "RestForOne")))
        intensity, period = draw(st.integers(0, 2)), f"{draw(st.integers(1, 20))}s"
        spec = {"strategy": strategy, "intensity": intensity, "period": period, "autoShutdown": auto}
        found.append(declare(name, *children, **spec))

    grow("s", 0)
    return found, pools


@given(trees(), st.data())
@settings(max_examples=100, deadline=None)
def test_random_trees_and_crashes_are_decided_as_by_otps_machines(
    tree: tuple[list[Declared], list[str]], data: st.DataObject
) -> None:
    declared, pools = tree
    if not pools:
        return
    house = House(declared, set(pools))
    nested = Nested({one.name: one.spec for one in declared})
    for _ in range(data.draw(st.integers(1, 12), "crashes")):
        house.now += data.draw(st.integers(0, 12), "seconds")
        pool = data.draw(st.sampled_from(pools), "pool")
        if house.views[pool].there == 0:
            continue  # what is paused has no worker that could crash
        house.crash(pool, settle=False)
        nested.crash(pool, house.now)
        for _ in range(data.draw(st.integers(0, 3), "steps")):
            house.step()
        if data.draw(st.booleans(), "another leader"):
            house.fail_over()
        house.settle()
        for name, machine in nested.machines.items():
            ours = house.trees.nodes[name].machine
            assert ours.ended == machine.ended, name
            if not machine.ended:
                assert freeze(ours) == freeze(machine), name
        for name in pools:
            owner = nested.machines[nested.parents[pool_id(name)]]
            gone = pool_id(name) not in owner.children
            assert (name in house.paused()) == (owner.ended is not None or gone), name


# ---- one by one


def family_of(*declared: Declared, pools: str = "ab") -> Family:
    return make_family(declared, set(pools))


def house(*declared: Declared, pools: str = "abc") -> House:
    return House(list(declared), set(pools))


def test_a_crash_of_one_for_one_counts_and_restarts_nobody() -> None:
    one = house(declare("s", "pool:a", "pool:b", intensity=2))
    one.crash("a", "OOMKilled")
    assert (one.restarts, one.state("s"), one.status("s").restarts) == ([], "Running", 1)
    (entry,) = one.status("s").last_restarts
    assert (entry.child, entry.worker, entry.reason) == ("workerPool/a", "a-1", "OOMKilled")


@pytest.mark.parametrize(
    ("strategy", "restarted"), [("OneForAll", ["a", "c"]), ("RestForOne", ["c"])], ids=["all others", "those after it"]
)
def test_siblings_are_restarted_in_their_order_once_for_one_cause(strategy: str, restarted: list[str]) -> None:
    one = house(declare("s", "pool:a", "pool:b", "pool:c", strategy=strategy, intensity=1))
    one.crash("b")
    assert (one.restarts, one.state("s"), one.status("s").restarts) == (restarted, "Running", 1)


def test_the_next_sibling_is_restarted_when_the_one_before_is_ready() -> None:
    one = house(declare("s", "pool:a", "pool:b", "pool:c", strategy="OneForAll", intensity=5))
    one.crash("a", settle=False)
    one.views["a"] = replace(one.views["a"], ready=0)
    one.trees.look(one.views.__getitem__, one.now)
    assert [pool for pool, order in one.trees.orders() if order.ask is Ask.RESTART] == []
    assert {child.name: child.state for child in one.status("s").children} == {
        "workerPool/a": "Restarting",
        "workerPool/b": "Restarting",
        "workerPool/c": "Restarting",
    }
    one.views["a"] = replace(one.views["a"], ready=1)
    one.trees.look(one.views.__getitem__, one.now)
    assert [pool for pool, order in one.trees.orders() if order.ask is Ask.RESTART] == ["b"]
    one.settle()
    assert one.restarts == ["b", "c"]


def test_a_crash_of_a_worker_from_before_the_restart_is_none_and_of_a_new_one_is_a_start_that_failed() -> None:
    one = house(declare("s", "pool:a", "pool:b", strategy="OneForAll", intensity=5))
    one.crash("a", settle=False)
    one.trees.look(one.views.__getitem__, one.now)
    (order,) = [order for pool, order in one.trees.orders() if pool == "b"]
    one.crash("b", settle=False, token="an older one")
    assert one.status("s").restarts == 1
    one.crash("b", settle=False, token=order.token)
    assert one.status("s").restarts == 2


def test_a_restart_that_stalls_is_a_start_that_failed_and_is_asked_for_anew() -> None:
    one = house(declare("s", "pool:a", "pool:b", strategy="OneForAll", intensity=5))
    one.crash("a", settle=False)
    one.trees.look(one.views.__getitem__, one.now)
    order = dict(one.trees.orders())["b"]
    stalled = PoolView(1, 0, 1, order.token, "Stalled", one.now, "no node")
    one.views["b"] = stalled
    one.restarts.clear()
    one.trees.look(one.views.__getitem__, one.now)
    one.settle()
    assert (one.status("s").restarts, one.state("s"), one.restarts) == (2, "Running", ["a", "b"])
    assert dict(one.trees.orders())["b"].token not in ("", order.token)
    assert "no node" in one.status("s").last_restarts[0].message


def three_levels(**leaf: Any) -> House:
    wanted = {"intensity": 1, "period": "1h"}
    return house(
        declare("leaf", "pool:a", "pool:b", age=1, **wanted | leaf),
        declare("middle", "leaf", "pool:c", age=2, **wanted),
        declare("root", "middle", age=3, **wanted),
    )


def test_three_levels_of_intensity_one_end_with_the_second_fourth_and_eighth_crash() -> None:
    tree = three_levels()
    seen = []
    for _ in range(8):
        tree.crash("a")
        seen.append([tree.status(name).restarts for name in ("leaf", "middle", "root")])
    assert seen[:7] == [[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
    assert [tree.state(name) for name in ("root", "middle", "leaf")] == ["Degraded", "Paused", "Paused"]
    assert set(tree.paused()) == {"a", "b", "c"}
    assert tree.paused()["a"].startswith("paused by supervisor leaf: 2 restarts within 1h are more than intensity 1")
    assert tree.paused()["c"].startswith("paused by supervisor middle: ")
    assert [news.reason for news in tree.trees.news][-1] == "SupervisorDegraded"


def test_a_supervisor_that_ends_pauses_its_pools_in_reverse_and_resumes_them_in_order() -> None:
    tree = house(declare("s", "pool:a", "pool:b", "pool:c", intensity=0), declare("root", "s", age=1, intensity=9))
    tree.crash("a", settle=False)
    asked = []
    while tree.state("s") == "Pausing":
        asked.append([pool for pool, order in tree.trees.orders() if order.ask is Ask.HOLD])
        tree.step()
    assert asked == [["a", "c"], ["a", "c", "b"]], "the one that crashed at once, the others one after the other"
    tree.restarts.clear()
    tree.settle()
    assert (tree.restarts, tree.paused()) == (["a", "b", "c"], {})


def test_a_reset_starts_the_tree_anew_and_is_done_once() -> None:
    tree = three_levels()
    for _ in range(8):
        tree.crash("a")
    tree.restarts.clear()
    tree.declare(declare("root", "middle", age=3, intensity=1, period="1h", reset="again"))
    tree.settle()
    assert [tree.state(name) for name in ("root", "middle", "leaf")] == ["Running"] * 3
    assert (tree.restarts, tree.paused()) == (["a", "b", "c"], {})
    tree.restarts.clear()
    tree.fail_over()
    tree.settle()
    assert tree.restarts == []


def test_a_supervisor_below_one_that_ended_cannot_be_reset_alone() -> None:
    tree = three_levels()
    for _ in range(8):
        tree.crash("a")
    tree.declare(declare("leaf", "pool:a", "pool:b", age=1, intensity=1, period="1h", reset="again"))
    tree.settle()
    assert (tree.state("leaf"), set(tree.paused())) == ("Paused", {"a", "b", "c"})


@pytest.mark.parametrize("restart", ["Transient", "Temporary"])
def test_a_child_that_gave_up_and_is_not_restarted_stays_paused_until_its_own_reset(restart: str) -> None:
    leaf = declare("leaf", "pool:a", intensity=0)
    tree = house(leaf, declare("root", {"supervisor": "leaf", "restart": restart}, "pool:b", age=1))
    tree.crash("a")
    assert [tree.state("root"), tree.state("leaf")] == ["Running", "Paused"]
    tree.declare()
    assert tree.state("leaf") == "Paused", "a look is no restart"
    tree.declare(replace(leaf, reset="again"))
    tree.settle()
    tree.declare()
    assert [tree.state("root"), tree.state("leaf"), tree.paused()] == ["Running", "Running", {}]
    assert tree.trees.nodes["root"].machine.running == ["supervisor/leaf", "workerPool/b"], "its parent's child again"


def test_the_end_of_the_root_releases_what_stands_below_it() -> None:
    tree = three_levels()
    for _ in range(8):
        tree.crash("a")
    tree.declared = [one for one in tree.declared if one.name == "leaf"]
    tree.declare()
    assert set(tree.paused()) == {"a", "b"}, "the leaf ended by itself; its parents' pool is free"
    tree.declared = []
    tree.declare()
    assert tree.paused() == {}


def test_a_supervisor_that_was_stopped_begins_again_when_nobody_stands_above_it() -> None:
    tree = house(declare("low", "pool:b"), declare("root", "pool:a", "low", age=1, intensity=0))
    tree.crash("a")
    assert (tree.state("low"), set(tree.paused())) == ("Paused", {"a", "b"})
    tree.declared = tree.declared[:1]
    tree.declare()
    tree.settle()
    assert (tree.state("low"), tree.paused()) == ("Running", {})


def test_a_temporary_pool_is_not_counted_and_a_sibling_takes_it_along_for_good() -> None:
    spec = {"strategy": "OneForAll", "intensity": 5}
    one = house(declare("s", {"workerPool": "a", "restart": "Temporary"}, "pool:b", "pool:c", **spec))
    one.crash("a")
    assert (one.status("s").restarts, one.paused(), one.restarts) == (0, {}, [])
    one.crash("b")
    assert list(one.paused()) == ["a"]
    one.declare()
    assert list(one.paused()) == ["a"]


def test_a_significant_temporary_pool_ends_the_supervisor() -> None:
    child = {"workerPool": "a", "restart": "Temporary", "significant": True}
    one = house(declare("s", child, "pool:b", autoShutdown="AnySignificant"))
    one.crash("a")
    assert (one.state("s"), one.status("s").reason, set(one.paused())) == ("Degraded", "Significant", {"a", "b"})


def test_children_come_and_go_while_it_runs() -> None:
    one = house(declare("s", "pool:a", "pool:z", intensity=0))
    status = one.status("s")
    assert (status.state, status.reason, status.children_running) == ("Running", "ChildMissing", "1/2")
    one.pools.add("z")
    one.views["z"] = PoolView(1, 1, 1)
    one.declare()
    assert one.status("s").children_running == "2/2"
    one.crash("z")
    assert set(one.paused()) == {"a", "z"}
    one.declare(declare("s", "pool:a", intensity=0))
    assert set(one.paused()) == {"a"}, "a pool that is nobody's child is free"
    one.declare(declare("s", "pool:a", "pool:b", intensity=0))
    assert set(one.paused()) == {"a", "b"}, "a child of a supervisor that ended is paused"


def test_a_child_has_one_parent_the_older_one() -> None:
    family = family_of(declare("a-young", "pool:a", age=2), declare("old", "pool:a", age=1))
    assert family.parents == {"workerPool/a": "old"}
    assert family.refused["a-young"] == {
        "workerPool/a": "workerPool/a is a child of supervisor old already: take it out of one of them"
    }


def test_nobody_is_a_child_of_his_own_child() -> None:
    family = family_of(declare("x", "y", age=1), declare("y", "z", age=2), declare("z", "x", "pool:a", age=3))
    assert family.parents == {"supervisor/y": "x", "supervisor/z": "y", "workerPool/a": "z"}
    assert family.refused["z"] == {
        "supervisor/x": "supervisor/x stands above supervisor z: nobody is a child of his own child"
    }


def test_workers_that_have_not_ended_in_time_are_late() -> None:
    one = house(
        declare("s", {"workerPool": "a", "shutdown": "30s"}, {"workerPool": "b", "shutdown": "BrutalKill"}, intensity=0)
    )
    one.crash("a", settle=False)
    orders = dict(one.trees.orders())
    assert [orders[pool].is_late(one.now) for pool in "ab"] == [False, True]
    assert [orders[pool].is_late(one.now + 30) for pool in "ab"] == [True, True]
