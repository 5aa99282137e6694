"""What a study is, as its YAML file says it, checked before any work is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from isodistill.errors import IsodistillError
from isodistill.evaluation.results import EvaluationConfig
from isodistill.isomers.config import GenerationConfig
from isodistill.methods.base import Choice, Range
from isodistill.validation import first_fault

Rule = Literal["validation", "leave_one_domain_out", "oracle"]
Control = Literal["shuffled_domains", "slow_erm", "no_cue", "untuned"]

AS_GIVEN = "as given"
"""The rule's name where nothing is searched."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataEntry(_Model):
    """One data set: generated and told by the symbolic teacher, or a folder that is there already.

    Attributes:
        generate: How it is generated.
        teacher: The symbolic teacher's options.
        path: The folder of a distilled data set.
        students: Which of the study's students it is for; ``None`` for all of them.
        draw_of: What it is a draw of: the comparisons on data sets of one such name are taken together too, each as one
            value. They may differ in their seed and their students alone.
        training: Trainer options of every arm on this data set, beside the study's: fewer sets a step where a set has
            more members.
    """

    generate: GenerationConfig | None = None
    teacher: dict[str, Any] = Field(default_factory=dict)
    path: str | None = None
    students: tuple[str, ...] | None = Field(default=None, min_length=1)
    draw_of: str | None = Field(default=None, pattern=_NAME)
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.generate is None) == (self.path is None):
            raise ValueError("give either generate or path")
        if self.path is not None and self.teacher:
            raise ValueError("a data set at a path has its completions already: leave teacher out")
        return self


class MethodEntry(_Model):
    """One method under one label.

    Further keys are options of the method: ``iga: {tau: 0.3}``.

    Attributes:
        method: The method's name; by default the label.
        method_options: Options of the method.
        penalty: A penalty beside it.
        penalty_options: Options of the penalty.
        training: Trainer options that differ from the study's.
    """

    method: str = ""
    method_options: dict[str, Any] = Field(default_factory=dict)
    penalty: str | None = None
    penalty_options: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, values: Any) -> Any:
        if values is None:
            return {}
        if not isinstance(values, Mapping):
            return values
        own = {name: value for name, value in values.items() if name not in cls.model_fields}
        known = {name: value for name, value in values.items() if name in cls.model_fields}
        if own:
            options = known.get("method_options") or {}
            twice = sorted(set(own) & set(options))
            if twice:
                raise ValueError(f"{twice[0]} is given twice: beside method_options and in it")
            known["method_options"] = {**options, **own}
        return known


class SpaceEntry(_Model):
    """Where one trainer option is searched: an interval, or some values.

    Attributes:
        low: The least value.
        high: The greatest value.
        log: Whether its logarithm is drawn uniformly.
        integer: Whether it is a whole number.
        choices: The values.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[bool | int | float | str, ...] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        interval = self.low is not None and self.high is not None
        if interval == bool(self.choices) or (self.choices and (self.low is not None or self.high is not None)):
            raise ValueError("give low and high, or choices")
        if interval and (self.low > self.high or (self.log and self.low <= 0)):  # type: ignore[operator]
            raise ValueError("low must not exceed high, and must be above 0 with log")
        return self

    def space(self) -> Range | Choice:
        """Returns it as the methods state theirs."""
        if self.choices:
            return Choice(self.choices)
        return Range(self.low, self.high, self.log, self.integer)  # type: ignore[arg-type]


class SearchConfig(_Model):
    """How hyperparameters are searched; the same for every method, plain training included.

    Attributes:
        trials: Trials of each method; the first is the values as given.
        seed: Seed of the draws.
        training_seed: The training seed of every trial.
        space: Trainer options that are searched for every method; a method's own options come on top.
        rules: How the trial is chosen.
        oracle_share: The share of the test sets that the rule ``oracle`` reads, and that no result counts.
    """

    trials: int = Field(default=8, ge=1)
    seed: int = 0
    training_seed: int = 0
    space: dict[str, SpaceEntry] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = Field(default=("validation",), min_length=1)
    oracle_share: float = Field(default=0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.rules)) < len(self.rules):
            raise ValueError("rules names a rule twice")
        return self


class StudyConfig(_Model):
    """A study: every method on every data set and student with every seed.

    Attributes:
        name: The study's name.
        data: The data sets by name.
        students: The students.
        methods: The methods by label.
        training: Options of `TrainJob` and `IsomerConfig` that all methods share.
        evaluation: How the final runs are evaluated; trials differ in the splits alone.
        benchmarks: Public benchmarks that the final runs are measured on too, ``NAME`` or ``NAME:ARGUMENT`` (see
            `isodistill benchmarks`); they count in no mean over splits.
        seeds: The training seeds.
        baseline: The label that the others are held against.
        search: The search for hyperparameters, or ``None`` for the values as given.
        controls: Further arms, see docs/compare.md.
        shuffled: The labels for which the control ``shuffled_domains`` runs; all methods that read domains by default.
        slow_factor: By what the control ``slow_erm`` divides the baseline's learning rate.
        fair: Whether arms that differ in what all must share are refused.
        keep_adapters: Whether adapters stay after their evaluation.
    """

    name: str = Field(pattern=_NAME)
    data: dict[str, DataEntry] = Field(min_length=1)
    students: tuple[str, ...] = Field(default=("lab",), min_length=1)
    methods: dict[str, MethodEntry] = Field(min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    benchmarks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    baseline: str = "erm"
    search: SearchConfig | None = None
    controls: tuple[Control, ...] = ()
    shuffled: tuple[str, ...] = ()
    slow_factor: float = Field(default=10.0, gt=1)
    fair: bool = True
    keep_adapters: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field, names in (
            ("seeds", self.seeds),
            ("students", self.students),
            ("controls", self.controls),
            ("benchmarks", self.benchmarks),
            ("shuffled", self.shuffled),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"{field} names something twice")
        for name in self.data:
            if not re.match(_NAME, name):
                raise ValueError(f"the data name {name!r} may hold letters, digits, dots, dashes and underscores only")
        same: dict[str, tuple[str, Any]] = {}
        for name, entry in self.data.items():
            if entry.draw_of is not None:
                content = entry.model_dump(exclude={"students": True, "draw_of": True, "generate": {"seed"}})
                first, known = same.setdefault(entry.draw_of, (name, content))
                if content != known or entry.path is not None:
                    raise ValueError(
                        f"data.{name} and data.{first} are draws of {entry.draw_of!r} and differ in more than their"
                        " seed: draws are generated alike"
                    )
            for student in entry.students or ():
                if student not in self.students:
                    raise ValueError(f"data.{name} is for {student!r}, which is not among the students")
        for student in self.students:
            if all(pair[0] != student for pair in self.pairs):
                raise ValueError(f"no data set is for the student {student!r}")
        if self.baseline not in self.methods:
            raise ValueError(f"the baseline {self.baseline!r} is not among the methods {', '.join(self.methods)}")
        for name in self.shuffled:
            if name not in self.methods:
                raise ValueError(f"shuffled names {name!r}, which is not among the methods {', '.join(self.methods)}")
        if self.shuffled and "shuffled_domains" not in self.controls:
            raise ValueError("shuffled names methods for the control shuffled_domains, which controls does not have")
        return self

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The student and the data set of each comparison, students first."""
        return [
            (student, name)
            for student in self.students
            for name, entry in self.data.items()
            if entry.students is None or student in entry.students
        ]

    @property
    def rules(self) -> tuple[str, ...]:
        """The selection rules under which results are reported."""
        return (AS_GIVEN,) if self.search is None else self.search.rules


def load_study(path: Path) -> StudyConfig:
    """Reads a study's YAML file.

    Args:
        path: The file.

    Returns:
        The study.

    Raises:
        IsodistillError: if the file cannot be read, or a field is unknown or wrong; the message names file and field.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise IsodistillError(f"study {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise IsodistillError(f"study {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise IsodistillError(f"study {path} must be a mapping of fields to values: see examples/study.yaml")
    return parse_study(values, f"study {path}")


def parse_study(values: Mapping[str, Any], where: str) -> StudyConfig:
    """Builds a study from plain values, with errors for people.

    Args:
        values: The fields of `StudyConfig`.
        where: What holds them, for errors.

    Returns:
        The study.

    Raises:
        IsodistillError: if a field is unknown or has a wrong value.
    """
    try:
        return StudyConfig.model_validate(_numbers(dict(values)))
    except ValidationError as error:
        raise IsodistillError(f"{where}, {': '.join(first_fault(error))}; mend it") from None


def _numbers(value: Any) -> Any:
    """Reads ``1e-3``, which YAML takes for a text, as the number that was meant."""
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value
