"""The number on its way through the rules, and the sentence that tells it.

Owns how rules are written down: every rule that is applied leaves a step with the number after it; one that changes the
number says so in a clause. The decision's message is those clauses in order, so that message and steps never disagree.
Knows no rule.
"""

from dataclasses import dataclass, field

from millpond_scaling.model import Step


@dataclass
class Trail:
    """`workers` is the number so far; `clamp` the rule that changed it last."""

    workers: int
    clamp: str = ""
    steps: list[Step] = field(default_factory=list)

    def start(self, rule: str, workers: int, text: str) -> None:
        """What the queue needs: where the way begins."""
        self.workers = workers
        self.steps.append(Step(rule, workers, text))

    def to(self, rule: str, workers: int, text: str) -> None:
        """Apply a rule: `text` stands in the message when it changed the number."""
        if workers == self.workers:
            self.steps.append(Step(rule, workers))
            return
        self.workers, self.clamp = workers, rule
        self.steps.append(Step(rule, workers, text))

    def note(self, rule: str, text: str) -> None:
        """Say something that changes nothing."""
        self.steps.append(Step(rule, self.workers, text))

    def message(self) -> str:
        """One sentence: what was needed, and every rule that made something else of it."""
        return "; ".join([step.text for step in self.steps if step.text])


def count(workers: int) -> str:
    """`1 worker`, `3 workers`."""
    return "1 worker" if workers == 1 else f"{workers} workers"
