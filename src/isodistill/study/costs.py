"""What the finished runs of a study cost: training time, tokens and memory."""

from __future__ import annotations

from statistics import median

from pydantic import BaseModel, ConfigDict

from isodistill.files import write_text_atomically
from isodistill.study.folder import StudyFolder

COSTS_FILE = "costs.json"


class ArmCost(BaseModel):
    """The cost of one arm's final runs on one data set with one student.

    Attributes:
        rule: The selection rule.
        data: The data set.
        student: The student.
        arm: The arm's label.
        seeds: The training seeds of the runs.
        steps: Training steps of each run, in the order of `seeds`.
        tokens: Tokens that each run was trained on, alike.
        seconds: Wall-clock time of each training in seconds, alike; evaluation is not in it.
        threads: Threads of each run, alike.
        peak_memory: The most memory held in each training in bytes, alike: of the accelerator where there is one,
            else of the process, Python, the libraries and the student included; ``None`` where it was not measured.
    """

    model_config = ConfigDict(extra="forbid")

    rule: str
    data: str
    student: str
    arm: str
    seeds: list[int] = []
    steps: list[int] = []
    tokens: list[int] = []
    seconds: list[float] = []
    threads: list[int] = []
    peak_memory: list[int | None] = []

    @property
    def seconds_per_step(self) -> float:
        """The median time of a training step over the runs, in seconds."""
        return median(spent / steps for spent, steps in zip(self.seconds, self.steps, strict=True))


class Costs(BaseModel):
    """Stands as ``costs.json`` in a study's folder, beside the results: times differ from run to run, results do not.

    Attributes:
        arms: One entry for each rule, data set, student and arm that was trained.
    """

    model_config = ConfigDict(extra="forbid")

    arms: list[ArmCost]


def write_costs(folder: StudyFolder) -> Costs:
    """Collects the costs of the finished runs and writes them.

    Args:
        folder: The study.

    Returns:
        The costs, arm by arm in the study's order.
    """
    arms: dict[tuple[str, str, str, str], ArmCost] = {}
    for rule in folder.config.rules:
        for run in folder.finals(rule):
            numbers = folder.metrics(run.folder.name)
            if run.seed is None or numbers is None or "seconds_training" not in numbers:
                continue  # the student as it comes
            key = (rule, run.data, run.student, run.arm)
            if key not in arms:
                arms[key] = ArmCost(rule=rule, data=run.data, student=run.student, arm=run.arm)
            cost = arms[key]
            cost.seeds.append(run.seed)
            cost.steps.append(numbers["steps"])
            cost.tokens.append(numbers["tokens"])
            cost.seconds.append(numbers["seconds_training"])
            cost.threads.append(numbers["threads"])
            cost.peak_memory.append(numbers.get("peak_memory"))
    costs = Costs(arms=list(arms.values()))
    write_text_atomically(folder.root / COSTS_FILE, costs.model_dump_json(indent=1) + "\n")
    return costs
