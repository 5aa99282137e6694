"""Which cells a study has: those of the trials, and, once they are scored, those that count."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from isodistill.errors import IsodistillError
from isodistill.files import write_text_atomically
from isodistill.methods import METHODS
from isodistill.study.arms import arm_on, build_arms, check_options
from isodistill.study.cells import Arm, Cell
from isodistill.study.config import AS_GIVEN, StudyConfig
from isodistill.study.data import DataFacts
from isodistill.study.folder import TRIALS_FILE, FinalEntry, StudyFolder
from isodistill.study.search import Trial, choose_trial, draw_trials


class ScoredTrial(BaseModel):
    """One trial and what it scored.

    Attributes:
        trial: Its values where they differ from those given.
        scores: Its score under each rule; ``None`` where a run failed.
        cells: The runs behind them.
    """

    model_config = ConfigDict(extra="forbid")

    trial: Trial
    scores: dict[str, float | None]
    cells: list[str]


class Tuning(BaseModel):
    """The trials of one arm on one data set with one student.

    Attributes:
        arm: The arm's label.
        data: The data set.
        student: The student.
        trials: The trials in order.
        chosen: The number of the trial that each rule chose; ``None`` where all failed.
    """

    model_config = ConfigDict(extra="forbid")

    arm: str
    data: str
    student: str
    trials: list[ScoredTrial]
    chosen: dict[str, int | None]


def record_trials(folder: StudyFolder, tunings: list[Tuning]) -> None:
    """Writes what was tried, what it scored and what was chosen.

    Args:
        folder: The study.
        tunings: What `Planner.tune` returned.
    """
    text = "[\n" + ",\n".join(tuning.model_dump_json(indent=1) for tuning in tunings) + "\n]\n"
    write_text_atomically(folder.root / TRIALS_FILE, text)


class Planner:
    """Lists the cells of a study.

    Args:
        config: The study.
        data: What is known of each data set.

    Raises:
        IsodistillError: if an arm or a trial has an option that does not fit, see `build_arms`.
    """

    def __init__(self, config: StudyConfig, data: Mapping[str, DataFacts]) -> None:
        self.config = config
        self.data = data
        self.arms = build_arms(config)
        self.trials: dict[str, list[Trial]] = {}
        """The trials of each arm that has its own."""
        for arm in self.arms:
            if arm.searched and config.search is not None:
                self.trials[arm.label] = draw_trials(config.search, arm)
                for trial in self.trials[arm.label]:
                    check_options(trial.applied(arm))
            self._check_domains(arm)
        evaluation = config.evaluation.model_dump()
        if evaluation["system_prompt"] is None:
            evaluation["system_prompt"] = config.training.get("system_prompt")
        self._evaluation = type(config.evaluation)(**evaluation)

    def trial_cells(self) -> list[Cell]:
        """Lists the runs that score the trials; those of a data set and student stand together.

        Returns:
            The cells; none where nothing is searched.
        """
        return [
            cell
            for student, data in self.config.pairs
            for arm in self.arms
            for trial in self.trials.get(arm.label, ())
            for cell in self._cells_of_trial(arm, trial, data, student)
        ]

    def tune(self, folder: StudyFolder) -> list[Tuning]:
        """Scores the trials by their finished runs, and chooses under each rule.

        Args:
            folder: The study.

        Returns:
            The tuning of each arm, data set and student.
        """
        found = []
        for student, data in self.config.pairs:
            for label, trials in self.trials.items():
                arm = next(arm for arm in self.arms if arm.label == label)
                scored = [self._score(folder, arm, trial, data, student) for trial in trials]
                chosen = {rule: choose_trial([trial.scores[rule] for trial in scored]) for rule in self.config.rules}
                found.append(Tuning(arm=label, data=data, student=student, trials=scored, chosen=chosen))
        return found

    def final_cells(self, tunings: list[Tuning]) -> tuple[list[Cell], list[FinalEntry]]:
        """Lists the runs that count. An arm of which every trial failed has none.

        Args:
            tunings: What `tune` returned.

        Returns:
            The cells, each once, and what each stands for under each rule.
        """
        chosen = {(t.arm, t.data, t.student): t for t in tunings}
        cells: dict[str, Cell] = {}
        entries = []
        for rule in self.config.rules:
            for student, data in self.config.pairs:
                for arm in self.arms:
                    trial: Trial | None = Trial()
                    if rule != AS_GIVEN and arm.kind != "untuned":
                        tuning = chosen[arm.trials_of, data, student]
                        number = tuning.chosen[rule]
                        trial = None if number is None else tuning.trials[number].trial
                    if trial is None:
                        continue
                    for seed in self.config.seeds[:1] if arm.kind == "untuned" else self.config.seeds:
                        cell = self._final_cell(arm, trial, data, student, seed)
                        cells[cell.slug] = cell
                        entries.append(
                            FinalEntry(
                                rule=rule,
                                arm=arm.label,
                                data=data,
                                student=student,
                                seed=None if arm.kind == "untuned" else seed,
                                control=arm.kind != "method",
                                cell=cell.slug,
                            )
                        )
        # Those of a student stand together: a worker loads each student once.
        order = {student: place for place, student in enumerate(self.config.students)}
        return sorted(cells.values(), key=lambda cell: order[cell.student]), entries

    def _cells_of_trial(self, arm: Arm, trial: Trial, data: str, student: str) -> list[Cell]:
        search = self.config.search
        assert search is not None
        held_out: list[str | None] = []
        if {"validation", "oracle"} & set(search.rules):
            held_out.append(None)
        if "leave_one_domain_out" in search.rules:
            held_out += self.data[data].domains
        return [
            Cell(
                stage="trial",
                arm=arm_on(trial.applied(arm), self.config, data),
                data=data,
                data_digest=self.data[data].digest,
                student=student,
                seed=search.training_seed,
                trial=trial.number,
                held_out=domain,
                oracle_share=self._oracle_share() if domain is None else 0.0,
                evaluation=self._evaluation.model_copy(update={"splits": ["validation"]}),
            )
            for domain in held_out
        ]

    def _final_cell(self, arm: Arm, trial: Trial, data: str, student: str, seed: int) -> Cell:
        applied = arm_on(trial.applied(arm), self.config, data)
        if arm.kind == "slow_erm":
            rate = applied.training.get("learning_rate", _DEFAULT_RATE) / self.config.slow_factor
            applied = applied.model_copy(update={"training": applied.training | {"learning_rate": rate}})
        return Cell(
            stage="final",
            arm=applied,
            data=data,
            data_digest=self.data[data].digest,
            student=student,
            seed=seed,
            trial=trial.number,
            oracle_share=self._oracle_share(),
            evaluation=self._evaluation,
        )

    def _oracle_share(self) -> float:
        search = self.config.search
        return search.oracle_share if search is not None and "oracle" in search.rules else 0.0

    def _score(self, folder: StudyFolder, arm: Arm, trial: Trial, data: str, student: str) -> ScoredTrial:
        cells = self._cells_of_trial(arm, trial, data, student)
        metrics = {cell.held_out: folder.metrics(cell.slug) for cell in cells}
        whole = metrics.get(None)
        scores: dict[str, float | None] = {}
        for rule in self.config.rules:
            if rule == "leave_one_domain_out":
                found = [numbers for domain, numbers in metrics.items() if domain is not None]
                values = [numbers["validation"] for numbers in found if numbers is not None]
                scores[rule] = sum(values) / len(values) if len(values) == len(found) else None
            else:
                scores[rule] = None if whole is None else whole[rule]
        return ScoredTrial(trial=trial, scores=scores, cells=[cell.slug for cell in cells])

    def _check_domains(self, arm: Arm) -> None:
        search = self.config.search
        needed = max(METHODS[name].min_domains for name in (arm.method, arm.penalty) if name is not None)
        for name, known in self.data.items():
            count = len(known.domains)
            if count < needed:
                raise IsodistillError(
                    f"methods.{arm.label} compares {needed} domains and data.{name} has {count}: leave the method out"
                )
            if search is not None and "leave_one_domain_out" in search.rules and count - 1 < needed:
                raise IsodistillError(
                    f"search.rules: leave_one_domain_out leaves {count - 1} domain(s) of data.{name}, and"
                    f" methods.{arm.label} needs {needed}: drop the rule"
                )


_DEFAULT_RATE = 2e-5
"""The trainer's own learning rate where none is given."""
