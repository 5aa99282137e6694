"""A local teacher beside the training: it scores each step's batches, and the student's own completions (GKD).

Source: generalised knowledge distillation, Agarwal et al. 2023 (arXiv 2306.13649). A step is on-policy with chance
lambda, as a whole and on all processes alike; then the student completes the step's prompts, and what it wrote takes
the place of the traces. As in GKD no gradient passes through the sampling. Departure from TRL's GKDTrainer: each
completion has a seed of its own, made of the run's seed, the step and the prompt, so that micro-batches, processes
and a resume change nothing.
"""

from __future__ import annotations

import hashlib
import random
import time
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from transformers import LogitsProcessorList

from isodistill.errors import IsodistillError
from isodistill.teachers.local import GumbelNoise, end_ids, load_local
from isodistill.traces.signals import check_same_vocabulary
from isodistill.trainer.config import IsomerConfig
from isodistill.trainer.data import answer_position
from isodistill.trainer.forward import refuse_scaled_logits
from isodistill.trainer.signals import DEFAULT_TOP_K, label_counts, score_batch

Batch = dict[str, torch.Tensor]


@dataclass
class BatchTeacher:
    """Gives the token distributions of batches while the student trains.

    Args:
        network: The teacher in evaluation mode, with the student's vocabulary.
        k: How many of its tokens are kept at each place.
        args: The trainer's configuration.
    """

    network: Any
    k: int
    args: IsomerConfig

    @classmethod
    def build(cls, args: IsomerConfig, given: Any, student: Any, tokenizer: Any) -> BatchTeacher | None:
        """Loads the teacher if one is needed at the steps.

        Args:
            args: The configuration.
            given: A loaded teacher, or ``None``.
            student: The student.
            tokenizer: The student's tokenizer.

        Returns:
            The teacher; ``None`` without distillation, or where the store has all that is needed.

        Raises:
            IsodistillError: If the teacher is missing or not needed, or its vocabulary is not the student's.
        """
        needed = args.distillation is not None and (args.distillation_store is None or args.on_policy_fraction > 0)
        if not needed:
            if given is not None:
                raise IsodistillError(
                    "teacher_model is given and nothing asks for it: set distillation, and leave distillation_store"
                    " out or set on_policy_fraction"
                )
            return None
        width = int(student.config.get_text_config().vocab_size)
        if given is None:
            network, its_tokenizer = _load(args)
            check_same_vocabulary(its_tokenizer, tokenizer)
        else:
            network = given
        network, trained = _bare(network), _bare(student)
        if network is trained:
            raise IsodistillError("teacher_model is the student itself: load the teacher's weights a second time")
        config = network.config.get_text_config()
        refuse_scaled_logits(config, "distillation", "teacher")
        if int(config.vocab_size) != width:
            raise IsodistillError(
                f"the teacher's vocabulary has {config.vocab_size} places and the student's {width}, so their"
                " distributions cannot be compared; take a teacher of the student's own model family"
            )
        k = args.distillation_top_k or min(DEFAULT_TOP_K, width)
        if k > width:
            raise IsodistillError(f"distillation_top_k={k} is more than the vocabulary's {width} tokens; lower it")
        return cls(network.to(args.device).eval(), k, args)

    def score(self, batch: Batch) -> Batch:
        """Adds the teacher's distributions to a batch.

        Args:
            batch: The collated batch.

        Returns:
            The batch with teacher_ids and teacher_logprobs.
        """
        return batch | score_batch(self.network, batch, self.k)

    def teach(
        self, student: Any, tokenizer: Any, batches: list[Batch], step: int, logged: dict[str, list[float]]
    ) -> list[Batch]:
        """Has the student write a step's completions where it is due, and scores what has no scores.

        Args:
            student: The student, without wrappers of parallel training.
            tokenizer: Its tokenizer.
            batches: The step's micro-batches.
            step: How many optimizer steps were made before.
            logged: Lists of metrics by name; the sampled tokens and their seconds are added.

        Returns:
            The micro-batches with teacher_ids and teacher_logprobs.
        """
        started, tokens = time.monotonic(), 0
        if is_on_policy(self.args, step):
            batches = [own_completions(student, tokenizer, batch, self.args, step) for batch in batches]
            tokens = sum(int(label_counts(batch["labels"]).sum()) for batch in batches)
        if self.args.on_policy_fraction:
            logged["on_policy/tokens"].append(tokens)
            logged["on_policy/seconds"].append(time.monotonic() - started)
        return [batch if "teacher_ids" in batch else self.score(batch) for batch in batches]


def _bare(model: Any) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _load(args: IsomerConfig) -> tuple[Any, Any]:
    name = args.distillation_teacher
    if name is None:
        raise IsodistillError(
            "distillation needs a teacher: give the distillation_store with its distributions, or a local one as"
            " distillation_teacher=hf:PATH"
        )
    if not name.startswith("hf:"):
        raise IsodistillError(
            f"distillation_teacher={name!r} cannot score at each step, which needs a local model: give hf:PATH, or a"
            " distillation_store without on_policy_fraction"
        )
    return load_local(name.removeprefix("hf:"), str(args.device))


def is_on_policy(args: IsomerConfig, step: int) -> bool:
    """Tosses the coin of a step.

    Args:
        args: The configuration, with the chance and the run's seed.
        step: How many optimizer steps were made before.

    Returns:
        Whether the step is on the student's own completions.
    """
    if not args.on_policy_fraction or step % args.on_policy_every:
        return False
    return random.Random(f"{args.seed}/{step}").random() < args.on_policy_fraction


@torch.no_grad()
def own_completions(student: Any, tokenizer: Any, batch: Batch, args: IsomerConfig, step: int) -> Batch:
    """Replaces a batch's completions by what the student writes itself.

    Args:
        student: The student, without wrappers of parallel training.
        tokenizer: Its tokenizer.
        batch: The collated batch.
        args: The configuration.
        step: How many optimizer steps were made before.

    Returns:
        The batch with other input_ids, attention_mask, labels and answer_positions, on_policy set for each sequence,
        and nothing of a teacher's.
    """
    device = batch["input_ids"].device
    starts = batch["labels"].ne(-100).int().argmax(1).tolist()
    prompts = [ids[:start] for ids, start in zip(batch["input_ids"].tolist(), starts, strict=True)]
    longest = max(starts)
    limits = [args.max_length, getattr(student.config.get_text_config(), "max_position_embeddings", None)]
    room = min([args.on_policy_max_new_tokens, *(limit - longest for limit in limits if limit is not None)])
    pad, ends = int(tokenizer.pad_token_id), end_ids(student, tokenizer)
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in prompts], device=device)  # (S, longest)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=device)
    noise = GumbelNoise([args.on_policy_temperature] * len(prompts), [_seed(args.seed, step, row) for row in prompts])
    was_training = student.training
    student.eval()  # no dropout, and no draw from the run's own random state
    try:
        written = student.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max(1, room),
            do_sample=False,  # the noise makes the likeliest token a sample
            num_beams=1,
            repetition_penalty=1.0,
            temperature=None,
            top_p=None,
            top_k=None,
            use_cache=True,
            pad_token_id=pad,
            eos_token_id=sorted(ends),
            logits_processor=LogitsProcessorList([noise]),
        )[:, longest:].tolist()
    finally:
        student.train(was_training)
    completions = [_until_end(row, ends) for row in written]
    return _batch_of(prompts, completions, batch, tokenizer, device)


def _until_end(row: list[int], ends: set[int]) -> list[int]:
    """A completion with its end token, without the padding behind it."""
    return row[: next((place + 1 for place, token in enumerate(row) if token in ends), len(row))]


def _seed(seed: int, step: int, prompt: list[int]) -> int:
    digest = hashlib.sha256(f"{seed}/{step}/{prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _batch_of(
    prompts: list[list[int]], completions: list[list[int]], batch: Batch, tokenizer: Any, device: torch.device
) -> Batch:
    rows = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    labels = [[-100] * len(prompt) + completion for prompt, completion in zip(prompts, completions, strict=True)]
    length = max(len(row) for row in rows)
    positions = [
        answer_position(row, tokenizer.decode(completion, skip_special_tokens=True), tokenizer)
        for row, completion in zip(labels, completions, strict=True)
    ]

    def padded(values: list[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([row + [fill] * (length - len(row)) for row in values], device=device)

    return {
        "input_ids": padded(rows, int(tokenizer.pad_token_id)),
        "attention_mask": padded([[1] * len(row) for row in rows], 0),
        "labels": padded(labels, -100),
        "answer_positions": torch.tensor(positions, device=device),
        "on_policy": torch.ones(len(rows), dtype=torch.bool, device=device),
        "domain_ids": batch["domain_ids"],
        "set_ids": batch["set_ids"],
    }
