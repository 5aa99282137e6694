"""Teaches small students every problem family and measures accuracy by depth: `make depth`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from isodistill.answers import format_completion, same_answer, split_completion
from isodistill.evaluation.generation import generate_completions
from isodistill.files import write_text_atomically
from isodistill.isomers.families import make_family
from isodistill.isomers.packs import load_pack
from isodistill.isomers.render import Wording, render
from isodistill.isomers.splits import Group, group_of
from isodistill.lab.config import make_lab_config
from isodistill.lab.pretrain import make_model
from isodistill.lab.vocabulary import make_tokenizer, pieces
from isodistill.prompting import plain_prompt
from isodistill.teachers.symbolic import Style
from isodistill.teachers.tellings import TELLINGS
from isodistill.teachers.tellings.voice import Voice

ROOT = Path(__file__).resolve().parent.parent
PROTOCOL = ROOT / "studies" / "depth" / "protocol.yaml"
RESULTS = ROOT / "studies" / "depth" / "results.json"
STUDENTS = ROOT / "runs" / "depth"

_PACKAGES = ("isodistill", "torch", "transformers", "numpy", "scipy")
_SAMPLES = 3000  # problems read for the vocabulary; a word that none of them holds becomes <unk>
_BATCHES = 8  # drawn together and sorted by length, so that little is padded
_ATTEMPTS = 2000  # structures drawn for one of the wanted group
_ASKED = 64  # answered side by side
_WARMUP = 0.05
_IGNORED = -100
_HEAD_SCALE = 0.02  # the word vectors have a standard deviation of 1


class Protocol(BaseModel):
    """What is taught and asked, fixed before the run.

    Attributes:
        domain: The domain pack; every sentence takes its plainest template.
        words: How many of the pack's words of each sort are used.
        families: The problem families by name, with the options that differ from their defaults.
        depths: The least and the most depth, taught and asked alike.
        style: How the symbolic teacher tells the solutions.
        seeds: A student is taught with each seed.
        student: Size of the student: fields of `LabConfig`.
        steps: Training steps, a multiple of 8.
        batch_size: Problems in a step, all new, their family and depth drawn uniformly.
        ramp: The share of the steps over which the greatest depth grows from the least one.
        matrix_rate: Learning rate of Muon, for the matrices inside the layers.
        other_rate: Learning rate of AdamW, for word vectors, head and norms.
        problems: Problems asked of each family and depth.
        max_new_tokens: The most words that the student may write for one of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str
    words: int
    families: dict[str, dict[str, Any]]
    depths: tuple[int, int]
    style: Style = "full"
    seeds: tuple[int, ...]
    student: dict[str, int]
    steps: int = Field(multiple_of=_BATCHES)
    batch_size: int
    ramp: float
    matrix_rate: float
    other_rate: float
    problems: int
    max_new_tokens: int


class Problem(BaseModel):
    """A problem as the student is shown it.

    Attributes:
        prompt: Its text.
        completion: What the teacher says, which ends in the answer line.
        answer: The answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    completion: str
    answer: str


def draw_problem(protocol: Protocol, rng: Random, family: str, depth: int, turn: int, group: Group) -> Problem:
    """Draws a problem of a group of structures; training and test never share a structure.

    Args:
        protocol: The protocol.
        rng: The only source of chance.
        family: The family.
        depth: The depth.
        turn: Answers take turns: the class of the answer is this number modulo the number of classes.
        group: ``"train"`` or ``"test"``.

    Returns:
        The problem with the teacher's solution.
    """
    sampler = make_family(family, protocol.families[family])
    pack = load_pack(protocol.domain)
    drawn = (sampler.sample(rng, depth, turn % len(sampler.classes)) for _ in range(_ATTEMPTS))
    skeleton = next(skeleton for skeleton in drawn if group_of(skeleton.structure) == group)
    words = {sort: list(known)[: protocol.words] for sort, known in pack.words.items()}
    for known in words.values():
        rng.shuffle(known)
    lexicon = {symbol.name: words[symbol.sort].pop() for symbol in skeleton.symbols}
    # The plainest phrasing of each sentence: what is to be learned is the logic.
    wording = Wording(lexicon, (0,) * len(skeleton.premises), 0, 0)
    voice = Voice(skeleton, pack, lexicon, full=protocol.style == "full")
    return Problem(
        prompt=render(skeleton, pack, wording),
        completion=format_completion(" ".join(TELLINGS[family](voice)), skeleton.answer),
        answer=skeleton.answer,
    )


def training_problem(protocol: Protocol, seed: int, number: int) -> Problem:
    """Draws a problem of the training.

    Args:
        protocol: The protocol.
        seed: The training seed.
        number: Which problem; negative ones are of the whole range of depths and never trained on.

    Returns:
        The problem; equal arguments give equal problems.
    """
    rng = Random(f"{seed}/depth/train/{number}")
    least, most = protocol.depths
    progress = number / max(1.0, protocol.ramp * protocol.steps * protocol.batch_size)
    if 0 <= progress < 1:
        most = least + int(progress * (most - least + 1))
    family = rng.choice(list(protocol.families))
    return draw_problem(protocol, rng, family, rng.randint(least, most), rng.randrange(6), "train")


def teach(protocol: Protocol, seed: int) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Teaches one student from scratch by predicting the teacher's completions.

    Args:
        protocol: The protocol.
        seed: Seed of the first weights and of the problems.

    Returns:
        The student and its tokenizer.
    """
    words = set("0123456789")
    for number in range(_SAMPLES):
        problem = training_problem(protocol, seed, -1 - number)
        words.update(pieces(f"{problem.prompt}\n{problem.completion}"))
    tokenizer = make_tokenizer(sorted(words))
    model = make_model(make_lab_config(seed=seed, **protocol.student), tokenizer).train()
    with torch.no_grad():
        # A head that begins with the word vectors can copy any word as soon as it can copy one.
        model.lm_head.weight.copy_(model.model.embed_tokens.weight * _HEAD_SCALE)
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    others = [weight for weight in model.parameters() if not any(weight is matrix for matrix in matrices)]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=protocol.matrix_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=protocol.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    rates = (protocol.matrix_rate, protocol.other_rate)
    losses: list[float] = []
    for step, (ids, targets) in enumerate(_batches(protocol, seed, tokenizer)):
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * _schedule(step, protocol.steps)
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        wanted = targets[:, 1:] != _IGNORED
        loss = torch.nn.functional.cross_entropy(model.lm_head(states[wanted]), targets[:, 1:][wanted])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            sys.stderr.write(f"seed {seed}, step {step + 1}: loss {sum(losses[-100:]) / 100:.4f}\n")
    return model.eval(), tokenizer


def _schedule(step: int, steps: int) -> float:
    """A linear rise, then half a cosine to zero."""
    warmup = max(1, round(_WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def _batches(
    protocol: Protocol, seed: int, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields each step's token ids and targets (B, T); prompts and padding are no targets."""
    size = protocol.batch_size
    for first in range(0, protocol.steps, _BATCHES):
        rows = []
        for number in range(first * size, (first + _BATCHES) * size):
            problem = training_problem(protocol, seed, number)
            prompt = tokenizer(plain_prompt(problem.prompt))["input_ids"]
            rows.append((prompt, [*tokenizer(problem.completion)["input_ids"], tokenizer.eos_token_id]))
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        for place in torch.randperm(_BATCHES, generator=torch.Generator().manual_seed(seed + first)).tolist():
            yield _pad(rows[place * size : (place + 1) * size])


def _pad(rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Padding stands on the right, where a causal model never looks, so no attention mask is needed."""
    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    targets = torch.full((len(rows), length), _IGNORED)
    for place, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[place, :end] = torch.tensor([*prompt, *completion])
        targets[place, len(prompt) : end] = torch.tensor(completion)
    return ids, targets


def asked_problems(protocol: Protocol, family: str, depth: int) -> list[Problem]:
    """Draws what every student is asked.

    Args:
        protocol: The protocol.
        family: The family.
        depth: The depth.

    Returns:
        Problems of test structures, their answers in equal parts.
    """
    rng = Random(f"depth/test/{family}/{depth}")
    return [draw_problem(protocol, rng, family, depth, turn, "test") for turn in range(protocol.problems)]


def ask(
    protocol: Protocol, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: list[Problem]
) -> str:
    """Lets the student solve problems.

    Args:
        protocol: The protocol.
        model: The student.
        tokenizer: Its tokenizer.
        problems: The problems.

    Returns:
        A ``1`` for each problem with the right answer and a ``0`` for each other, in the problems' order.
    """
    prompts = [problem.prompt for problem in problems]
    written = generate_completions(model, tokenizer, prompts, batch_size=_ASKED, max_new_tokens=protocol.max_new_tokens)
    right = [
        same_answer(split_completion(completion)[1], problem.answer)
        for completion, problem in zip(written, problems, strict=True)
    ]
    return "".join(str(int(each)) for each in right)


def read_protocol(file: Path) -> Protocol:
    """Reads a protocol.

    Args:
        file: A YAML file.

    Returns:
        The protocol.
    """
    return Protocol.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))


def main(protocol_file: Path = PROTOCOL, out: Path = RESULTS, students: Path = STUDENTS) -> None:
    """Runs the protocol and writes the raw results after each student.

    Args:
        protocol_file: The protocol.
        out: Where the raw results go.
        students: The folder that the students are left in, to be looked at; nothing reads them here.
    """
    protocol = read_protocol(protocol_file)
    found: dict[str, dict[str, dict[str, str]]] = {}
    for seed in protocol.seeds:
        model, tokenizer = teach(protocol, seed)
        model.save_pretrained(students / str(seed))
        tokenizer.save_pretrained(students / str(seed))
        for family in protocol.families:
            for depth in range(protocol.depths[0], protocol.depths[1] + 1):
                right = ask(protocol, model, tokenizer, asked_problems(protocol, family, depth))
                found.setdefault(family, {}).setdefault(str(depth), {})[str(seed)] = right
                sys.stderr.write(f"seed {seed}, {family}, depth {depth}: {right.count('1') / len(right):.3f}\n")
        raw = {
            "protocol": protocol.model_dump(mode="json"),
            "versions": {name: metadata.version(name) for name in _PACKAGES},
            "right": found,
        }
        write_text_atomically(out, json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
