"""Teaches small students every problem family and measures accuracy by depth: `make depth`."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from precise_muon import PreciseMuon
from pydantic import BaseModel, ConfigDict, Field
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from isodistill.answers import format_completion, same_answer, split_completion
from isodistill.evaluation.generation import generate_completions
from isodistill.files import write_text_atomically
from isodistill.isomers.families import FAMILIES, make_family
from isodistill.isomers.packs import Pack, Relation, load_pack
from isodistill.isomers.render import Wording, content, render
from isodistill.isomers.skeleton import Skeleton
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
WORK = ROOT / "runs" / "depth"

_PACKAGES = ("isodistill", "torch", "transformers", "numpy", "scipy")
_SAMPLES = 3000  # problems read for the vocabulary; a word that none of them holds becomes <unk>
_BATCHES = 8  # drawn together and sorted by length, so that little is padded
_ATTEMPTS = 200  # choices of words drawn for one of the wanted group
_ASKED = 64  # answered side by side
_WARMUP = 0.05
_VERDICT = 16  # words at the end of a solution: whether the statement is so, and the answer line
_MARKS = (".", ",", "\n")  # the word after one of them, as the first of all, settles how the solution goes on
_HEAD_SCALE = 0.02  # the word vectors have a standard deviation of 1


class Protocol(BaseModel):
    """What is taught and asked, fixed before the run.

    Attributes:
        domain: The domain pack that the words come from.
        words: How many of the pack's words of each sort are used.
        words_of: The same for families that need more, by name.
        templates: The wording of each kind of statement, as terse as can be.
        families: The problem families by name, with the options that differ from their defaults.
        depths: The least and the most depth, taught alike.
        beyond: How many depths more are asked, which are not taught.
        style: How the symbolic teacher tells the solutions.
        opening_weight: Weight in the loss of the words that open a sentence or a clause of a solution.
        verdict_weight: Weight of a solution's last 16 words, if greater than the one above; all others have 1.
        seeds: A student is taught with each seed.
        student: Size of the student: fields of `LabConfig`.
        steps: Training steps, a multiple of 8.
        batch_size: Problems in a step, all new, their family and depth drawn uniformly.
        matrix_rate: Learning rate of Muon, for the matrices inside the layers.
        other_rate: Learning rate of AdamW, for word vectors, head and norms.
        problems: Problems asked of each family and depth.
        max_new_tokens: The most words that the student may write for one of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str
    words: int
    words_of: dict[str, int] = {}
    templates: dict[str, str]
    families: dict[str, dict[str, Any]]
    depths: tuple[int, int]
    beyond: int
    style: Style = "full"
    opening_weight: float
    verdict_weight: float
    seeds: tuple[int, ...]
    student: dict[str, int]
    steps: int = Field(multiple_of=_BATCHES)
    batch_size: int
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


@cache
def _read_pack(domain: str, templates: tuple[tuple[str, str], ...]) -> Pack:
    pack = load_pack(domain)
    own = {name: getattr(pack, name) for name in Pack.model_fields}
    own["individuals"] = tuple(name.split()[1] for name in pack.individuals)  # "the Alder contract"
    own["agents"] = tuple(name.split()[1] for name in pack.agents)
    own["relations"] = (Relation(less="before", greater="after"),)
    own["templates"] = {kind: (template,) for kind, template in templates}
    return Pack.model_construct(**own)  # not a pack for people: three phrasings of each sentence are not wanted


def terse_pack(protocol: Protocol) -> Pack:
    """Puts the domain's words into terse sentences, so that what is left to be learned is the logic.

    Args:
        protocol: The protocol.

    Returns:
        The pack; names are single words.
    """
    return _read_pack(protocol.domain, tuple(protocol.templates.items()))


def draw_problem(protocol: Protocol, rng: Random, family: str, depth: int, turn: int, group: Group) -> Problem:
    """Draws a problem of a group; training and test never share a problem in the same words, in whatever order.

    They share structures: depth 1 has few, and with those dealt out a shallow problem would be the stranger one.

    Args:
        protocol: The protocol.
        rng: The only source of chance.
        family: The family.
        depth: The depth.
        turn: Answers take turns: the class of the answer is this number modulo the number of classes.
        group: ``"train"`` or ``"test"``: by the hash of what the problem says.

    Returns:
        The problem with the teacher's solution.
    """
    sampler = make_family(family, protocol.families[family])
    pack = terse_pack(protocol)
    skeleton = sampler.sample(rng, depth, turn % len(sampler.classes))
    lexicons = (_draw_lexicon(protocol, rng, skeleton) for _ in range(_ATTEMPTS))
    lexicon = next(lexicon for lexicon in lexicons if _group(content(skeleton, lexicon)) == group)
    wording = Wording(lexicon, (0,) * len(skeleton.premises), 0, 0)
    voice = Voice(skeleton, pack, lexicon, full=protocol.style == "full")
    return Problem(
        prompt=render(skeleton, pack, wording),
        completion=format_completion(" ".join(TELLINGS[family](voice)), skeleton.answer),
        answer=skeleton.answer,
    )


def _draw_lexicon(protocol: Protocol, rng: Random, skeleton: Skeleton) -> dict[str, str]:
    count = protocol.words_of.get(skeleton.family, protocol.words)
    words = {sort: list(known)[:count] for sort, known in terse_pack(protocol).words.items()}
    for known in words.values():
        rng.shuffle(known)
    return {symbol.name: words[symbol.sort].pop() for symbol in skeleton.symbols}


def _group(text: str) -> str:
    return group_of(hashlib.sha256(text.encode()).hexdigest())


def training_problem(protocol: Protocol, seed: int, number: int) -> Problem:
    """Draws a problem of the training.

    Args:
        protocol: The protocol.
        seed: The training seed.
        number: Which problem; negative ones are read for the vocabulary alone.

    Returns:
        The problem; equal arguments give equal problems.
    """
    rng = Random(f"{seed}/depth/train/{number}")
    least, most = protocol.depths
    family = rng.choice(list(protocol.families))
    return draw_problem(protocol, rng, family, rng.randint(least, most), rng.randrange(6), "train")


def teach(protocol: Protocol, seed: int) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Teaches one student from scratch by predicting the teacher's completions, on all families of the protocol.

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
        PreciseMuon(matrices, lr=protocol.matrix_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=protocol.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    rates = (protocol.matrix_rate, protocol.other_rate)
    losses: list[float] = []
    for step, (ids, weights) in enumerate(_batches(protocol, seed, tokenizer)):
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * _schedule(step, protocol.steps)
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        wanted = weights[:, 1:] > 0
        loss = torch.nn.functional.cross_entropy(model.lm_head(states[wanted]), ids[:, 1:][wanted], reduction="none")
        loss = (loss * weights[:, 1:][wanted]).sum() / weights.sum()
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
    """Yields each step's token ids and their weights in the loss (B, T); prompts and padding have none."""
    size = protocol.batch_size
    for first in range(0, protocol.steps, _BATCHES):
        rows = []
        for number in range(first * size, (first + _BATCHES) * size):
            problem = training_problem(protocol, seed, number)
            read = tokenizer(plain_prompt(problem.prompt))["input_ids"]
            written = [*tokenizer(problem.completion)["input_ids"], tokenizer.eos_token_id]
            rows.append(([*read, *written], [0.0] * len(read) + _weights(protocol, tokenizer, written)))
        rows.sort(key=lambda row: len(row[0]))
        for place in torch.randperm(_BATCHES, generator=torch.Generator().manual_seed(seed + first)).tolist():
            yield _pad(rows[place * size : (place + 1) * size])


def _weights(protocol: Protocol, tokenizer: PreTrainedTokenizerFast, written: list[int]) -> list[float]:
    """The words that decide are not to be drowned by the many that come by themselves."""
    marks = {tokenizer.convert_tokens_to_ids(mark) for mark in _MARKS}
    opens = [True, *(word in marks for word in written[:-1])]
    weights = [protocol.opening_weight if each else 1.0 for each in opens]
    weights[-_VERDICT:] = [max(protocol.verdict_weight, weight) for weight in weights[-_VERDICT:]]
    return weights


def _pad(rows: list[tuple[list[int], list[float]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Padding stands on the right, where a causal model never looks, so no attention mask is needed."""
    ids = torch.zeros(len(rows), max(len(row) for row, _ in rows), dtype=torch.long)
    weights = torch.zeros(ids.shape)
    for place, (row, own) in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        weights[place, : len(row)] = torch.tensor(own)
    return ids, weights


def asked_depths(protocol: Protocol, family: str) -> range:
    """Tells at which depths a family's problems are asked.

    Args:
        protocol: The protocol.
        family: The family.

    Returns:
        The depths that are taught and those beyond, as far as the family goes.
    """
    deepest = protocol.depths[1] + protocol.beyond
    return range(protocol.depths[0], min(deepest, FAMILIES[family].max_depth or deepest) + 1)


def asked_problems(protocol: Protocol, family: str, depth: int) -> list[Problem]:
    """Draws what every student is asked.

    Args:
        protocol: The protocol.
        family: The family.
        depth: The depth.

    Returns:
        Problems of the test group, their answers in equal parts.
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


def teach_and_ask(protocol: Protocol, family: str, seed: int, work: Path) -> dict[str, str]:
    """Teaches one student a family and asks it at every depth.

    Args:
        protocol: The protocol.
        family: The family.
        seed: The training seed.
        work: The folder for the students.

    Returns:
        The marks by depth, as `ask` gives them.
    """
    own = protocol.model_copy(update={"families": {family: protocol.families[family]}})
    model, tokenizer = teach(own, seed)
    model.save_pretrained(work / f"{family}-{seed}")
    tokenizer.save_pretrained(work / f"{family}-{seed}")
    marks = {}
    for depth in asked_depths(protocol, family):
        right = marks[str(depth)] = ask(own, model, tokenizer, asked_problems(own, family, depth))
        sys.stderr.write(f"{family}, seed {seed}, depth {depth}: {right.count('1') / len(right):.3f}\n")
    return marks


def main(protocol_file: Path = PROTOCOL, out: Path = RESULTS, work: Path = WORK, workers: int = 1) -> None:
    """Runs the protocol and writes the raw results; a run that was cut off goes on after its last whole student.

    Args:
        protocol_file: The protocol.
        out: Where the raw results go.
        work: The folder for the students, which are left there to be looked at; what is finished so far stands in
            ``part.json`` beside `out`, so that it can go on elsewhere.
        workers: How many students are taught side by side, each by a process and a thread of its own.
    """
    protocol = read_protocol(protocol_file)
    said = protocol.model_dump(mode="json")
    part = out.with_name("part.json")
    found: dict[str, dict[str, dict[str, str]]] = {}
    if part.is_file():
        before = json.loads(part.read_text(encoding="utf-8"))
        found = before["right"] if before["protocol"] == said else {}
    missing = [
        (family, seed)
        for family in protocol.families
        for seed in protocol.seeds
        if not any(str(seed) in by_seed for by_seed in found.get(family, {}).values())
    ]

    def keep(family: str, seed: int, marks: dict[str, str]) -> None:
        for depth, right in marks.items():
            found.setdefault(family, {}).setdefault(depth, {})[str(seed)] = right
        _write(part, {"protocol": said, "right": found})

    if workers == 1:
        for family, seed in missing:
            keep(family, seed, teach_and_ask(protocol, family, seed, work))
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            running = {pool.submit(teach_and_ask, protocol, *each, work): each for each in missing}
            for finished in as_completed(running):
                keep(*running[finished], finished.result())
    # Students that finished side by side, or in another run, stand in the protocol's order.
    found = {
        family: {
            str(depth): {str(seed): found[family][str(depth)][str(seed)] for seed in protocol.seeds}
            for depth in asked_depths(protocol, family)
        }
        for family in protocol.families
    }
    _write(out, {"protocol": said, "versions": {name: metadata.version(name) for name in _PACKAGES}, "right": found})
    part.unlink(missing_ok=True)


def _write(file: Path, content: dict[str, Any]) -> None:
    write_text_atomically(file, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1, help="students taught side by side (default 1)")
    main(workers=parser.parse_args().workers)
