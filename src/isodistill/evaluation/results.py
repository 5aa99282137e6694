"""What an evaluation is asked for and what it returns; both survive a round trip through JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isodistill.errors import IsodistillError
from isodistill.evaluation.probe import Decodability
from isodistill.files import write_text_atomically
from isodistill.statistics.bootstrap import Estimate
from isodistill.validation import first_fault


class _Model(BaseModel):
    # Not a number is never written: it is no JSON. What is undefined is None, and null in the file.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EvaluationConfig(_Model):
    """How a student is evaluated.

    Attributes:
        splits: The splits to evaluate, or ``None`` for every split but train and validation.
        limit_sets: Evaluate at most this many sets of each split (always the same ones), or ``None`` for all.
        batch_size: Sequences in a batch.
        max_new_tokens: The most tokens the student may write for one problem.
        system_prompt: An instruction put before each problem; use the one of the training.
        rationale: ``"student"`` scores the answer after the student's own rationale, ``"none"`` directly
            after the prompt.
        by: ``"both"`` lets the student write and scores the choices; ``"generation"`` only lets it write (no states,
            no probabilities); ``"likelihood"`` only scores, directly after the prompt, and takes the likeliest choice
            as the answer.
        bf16: Run the student in bf16 autocast, its head excepted; see `isodistill.evaluation.encoding.mixed_precision`.
        bootstrap_samples: Resamples behind each interval.
        seed: Seed of the bootstrap; the rest is deterministic.
    """

    splits: list[str] | None = None
    limit_sets: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
    max_new_tokens: int = Field(default=256, ge=1)
    system_prompt: str | None = None
    rationale: Literal["student", "none"] = "student"
    by: Literal["both", "likelihood", "generation"] = "both"
    bf16: bool = False
    bootstrap_samples: int = Field(default=1000, ge=100)
    seed: int = 0


class WorstDomain(_Model):
    """The domain with the lowest accuracy.

    Attributes:
        name: The domain.
        value: Its accuracy.
    """

    name: str
    value: float


class WorstGroup(_Model):
    """The pair of a domain and a cue with the lowest accuracy.

    Attributes:
        domain: The domain.
        cue: ``"right"``, ``"wrong"`` or ``"none"``: what the cue says of the answer.
        value: The group's accuracy.
        n_items: Its number of items; a small group may be the worst by chance.
    """

    domain: str
    cue: Literal["right", "wrong", "none"]
    value: float
    n_items: int


class Probes(_Model):
    """What a linear probe reads off the states at the answer position, on held-out items.

    Attributes:
        domain: The domain, in sets that it was not fitted on; ``None`` for a single domain.
        answer: The answer, in sets that it was not fitted on; ``None`` where the answers do not repeat.
        answer_across_domains: The answer, in domains that it was not fitted on.
    """

    domain: Decodability | None
    answer: Decodability | None
    answer_across_domains: Decodability | None


class SplitResult(_Model):
    """The measures of one split; shares lie in [0, 1], ``None`` means undefined here.

    Attributes:
        n_sets: Isomer sets evaluated.
        n_items: Problems evaluated, over all sets and domains.
        accuracy: Share of items whose written answer is right.
        likelihood_accuracy: Share of items with choices whose likeliest choice is right.
        balanced_accuracy: Mean over the answers of the share answered right; items with choices only.
        constant_accuracy: Accuracy of the best constant answer; items with choices only.
        answered: Share of completions with an answer line.
        cue_followed: Share of items with a cue whose written answer is the one the cue points at (for numbers: has
            the parity that it points at).
        by_domain: Accuracy by domain.
        by_depth: Accuracy by depth.
        by_family: Accuracy by problem family.
        worst_domain: The domain with the lowest accuracy.
        lcs_raw: Logical Consistency Score of the states as they are; lower is more consistent.
        lcs_centred: The same after subtracting each domain's mean state.
        agreement: Share of member pairs with the same written answer.
        js_divergence: Jensen-Shannon divergence between members' choice distributions, in nats.
        worst_group: The domain and cue with the lowest accuracy.
        probes: What can be read off the states.
        cka: Centred kernel alignment of the domains' states, the mean over pairs of domains.
        mean_score: Mean score of the problems' own scorer, which may give a part of the credit; ``None`` where answers
            are compared as text.
        set_accuracy: Share of sets all of whose members are answered right.
    """

    n_sets: int
    n_items: int
    accuracy: Estimate
    likelihood_accuracy: Estimate | None
    balanced_accuracy: float | None
    constant_accuracy: float | None
    answered: float
    cue_followed: float | None
    by_domain: dict[str, float]
    by_depth: dict[int, float]
    by_family: dict[str, float]
    worst_domain: WorstDomain
    lcs_raw: Estimate | None
    lcs_centred: Estimate | None
    agreement: Estimate | None
    js_divergence: Estimate | None
    worst_group: WorstGroup | None = None
    probes: Probes | None = None
    cka: float | None = None
    mean_score: float | None = None
    set_accuracy: Estimate | None = None


class ItemRecord(_Model):
    """One problem and what the student made of it.

    Attributes:
        split: The split.
        set_id: The isomer set.
        domain: The domain.
        family: The problem family.
        depth: The skeleton's depth.
        prompt: The problem's text.
        cue: The answer that the cue points at, or empty.
        answer: The verified answer.
        completion: What the student wrote; untrusted text.
        extracted: The answer read from it, or ``None``.
        correct: Whether they are the same.
        probabilities: Probability of each choice at the answer position, or ``None`` without choices.
    """

    split: str
    set_id: str
    domain: str
    family: str
    depth: int
    prompt: str
    cue: str
    answer: str
    completion: str
    extracted: str | None
    correct: bool
    probabilities: dict[str, float] | None


class BenchmarkRecord(_Model):
    """How a benchmark from elsewhere was put to the student.

    Attributes:
        title: The benchmark's title.
        source: The path, hub id or task.
        license: Its licence, or ``"unknown"``.
        instruction: What was put after each problem.
        config: How it was evaluated.
        splits: The splits of the evaluation that hold its measures.
        metrics: Numbers by another harness, by name; the splits hold all others.
        versions: Versions of the packages that it takes beside those of the evaluation.
        seconds: Wall-clock time.
    """

    title: str
    source: str
    license: str
    instruction: str
    config: EvaluationConfig
    splits: list[str]
    metrics: dict[str, float] = {}
    versions: dict[str, str] = {}
    seconds: float


class Evaluation(_Model):
    """The whole result of one evaluation.

    Attributes:
        student: The model's name or folder.
        adapter: The adapter in use, or ``None``.
        data: The data set's folder name.
        config: The configuration.
        versions: Versions of the packages that shape the numbers.
        seconds: Wall-clock time.
        splits: The measures by split, in evaluation order.
        items: Every problem with its completion.
        benchmarks: What was evaluated beside the data set, by name; `config` does not speak of these.
    """

    student: str
    adapter: str | None
    data: str
    config: EvaluationConfig
    versions: dict[str, str]
    seconds: float
    splits: dict[str, SplitResult]
    items: list[ItemRecord]
    benchmarks: dict[str, BenchmarkRecord] = {}

    def save(self, path: Path) -> Path:
        """Writes the evaluation as JSON, all at once.

        Args:
            path: The file's place.

        Returns:
            The path.
        """
        return write_text_atomically(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads an evaluation that `save` wrote.

        Args:
            path: The file.

        Returns:
            The evaluation.

        Raises:
            IsodistillError: If the file is missing or does not hold an evaluation.
        """
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise IsodistillError(f"Cannot read the evaluation {path}: {error.strerror}; evaluate first.") from error
        except ValidationError as error:
            place, reason = first_fault(error, "the top level")
            raise IsodistillError(
                f"{path} is not an evaluation of this version: {place}: {reason}; evaluate anew."
            ) from error
