"""The teacher that runs here: any causal language model of transformers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList, TopPLogitsWarper

from isodistill.errors import IsodistillError
from isodistill.students import load_student
from isodistill.teachers.base import Failure, Reply, Request
from isodistill.teachers.instruction import Instruction
from isodistill.teachers.judge import ends_in_answer
from isodistill.teachers.meter import Meter


class LocalTeacher:
    """Generates in batches, with the model's chat template.

    A reply depends on its own seed and not on its neighbours in the batch, up to the rounding of padded batches.

    Args:
        model: A built-in student's name, a folder, a ``.gguf`` file or a hub id.
        instruction: What comes before each problem.
        max_tokens: The most tokens of a reply.
        top_p: Nucleus sampling, where the temperature is above 0.
        batch_size: Problems in a batch.
        device: Where the model runs, for example ``"cuda"``.
        meter: Counts tokens, and may set a budget.

    Raises:
        IsodistillError: If the model cannot be found or loaded, or the device does not exist.
    """

    kind = "hf"
    varies = True

    def __init__(
        self,
        model: str,
        instruction: Instruction | None = None,
        max_tokens: int = 512,
        top_p: float = 1.0,
        batch_size: int = 16,
        device: str = "cpu",
        meter: Meter | None = None,
    ) -> None:
        self.model = model
        self.instruction = instruction or Instruction()
        self.max_tokens = max_tokens
        self.batch_size = batch_size
        self.meter = meter or Meter()
        self._top_p = top_p
        self.network, self.tokenizer = load_local(model, device)

    @property
    def name(self) -> str:
        """The kind and the model."""
        return f"hf:{self.model}"

    @property
    def prompt_version(self) -> str:
        """The instruction's version."""
        return self.instruction.version

    @property
    def patience(self) -> float:
        """A batch on a slow machine."""
        return 3600.0

    def parameters(self, request: Request) -> Mapping[str, Any]:
        """Sampling and length; see `Teacher.parameters`. A greedy reply has no seed."""
        fixed = {"max_tokens": self.max_tokens, "temperature": request.temperature}
        return fixed if request.temperature == 0 else {**fixed, "top_p": self._top_p, "seed": request.seed}

    def write(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        """Generates batch by batch; see `Teacher.write`."""
        while batch := list(itertools.islice(requests, self.batch_size)):
            yield from zip(batch, self._generate(batch), strict=True)

    def _generate(self, batch: list[Request]) -> list[Reply | Failure]:
        ids = [self._encode(request) for request in batch]
        limit = getattr(self.network.config, "max_position_embeddings", None)
        replies: list[Reply | Failure] = [
            Failure(
                "too long", f"the problem takes {len(row)} tokens and the model has {limit} positions", permanent=True
            )
            if limit is not None and len(row) + self.max_tokens > limit
            else Reply("")
            for row in ids
        ]
        places = [place for place, reply in enumerate(replies) if isinstance(reply, Reply)]
        if places:
            written = self._decode([ids[place] for place in places], [batch[place] for place in places])
            for place, reply in zip(places, written, strict=True):
                replies[place] = reply
        return replies

    def _encode(self, request: Request) -> list[int]:
        messages = self.instruction.messages(request.member.prompt)
        if getattr(self.tokenizer, "chat_template", None):
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        text = "\n".join(message["content"] for message in messages) + "\n"
        return list(self.tokenizer(text)["input_ids"])

    def _decode(self, prompts: list[list[int]], batch: list[Request]) -> list[Reply]:
        reserved = sum(len(row) + self.max_tokens for row in prompts)
        self.meter.reserve(reserved, len(batch))
        started = time.monotonic()
        device = self.network.device
        length = max(len(row) for row in prompts)
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (length - len(row)) + row for row in prompts], device=device)  # (B, T)
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in prompts], device=device)
        stop = _AnswerLine(self.tokenizer, length)
        noise = GumbelNoise([request.temperature for request in batch], [each.seed for each in batch], self._top_p)
        with torch.inference_mode():
            output = self.network.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=self.max_tokens,
                do_sample=False,  # the noise below makes the likeliest token a sample
                num_beams=1,
                repetition_penalty=1.0,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=pad,
                logits_processor=LogitsProcessorList([noise]),
                stopping_criteria=StoppingCriteriaList([stop]),
            )
        seconds = (time.monotonic() - started) / len(batch)
        ends = end_ids(self.network, self.tokenizer)
        replies = []
        for row, prompt in zip(output[:, length:].tolist(), prompts, strict=True):
            count = next((place for place, token in enumerate(row) if token in ends), None)
            text = self.tokenizer.decode(row[:count], skip_special_tokens=True)
            finished = count is not None or ends_in_answer(text)
            count = len([token for token in row if token != pad]) if count is None else count + 1
            replies.append(Reply(text, "stop" if finished else "length", len(prompt), count, seconds))
        written = sum(reply.completion_tokens for reply in replies)
        self.meter.settle(reserved, sum(len(row) for row in prompts), written)
        return replies


def load_local(model: str, device: str) -> tuple[Any, Any]:
    """Loads a local model for inference.

    Args:
        model: See `LocalTeacher`.
        device: Where it goes.

    Returns:
        The causal language model in evaluation mode, and its tokenizer.

    Raises:
        IsodistillError: If the model cannot be loaded, or the device does not exist.
    """
    network, tokenizer = load_student(model)
    try:
        return network.to(device).eval(), tokenizer
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise IsodistillError(f"the device {device!r} cannot hold the teacher ({reason}); choose another") from None


class GumbelNoise(LogitsProcessor):
    """Turns the likeliest token into a sample: argmax(logits / temperature + Gumbel noise) ~ softmax.

    Each row has a generator of its own, so that a sample does not depend on the rest of the batch.

    Args:
        temperatures: Each row's temperature; 0 is greedy.
        seeds: Each row's seed.
        top_p: Nucleus sampling.
    """

    def __init__(self, temperatures: list[float], seeds: list[int], top_p: float = 1.0) -> None:
        self._temperatures = temperatures
        # On the CPU, so that every device draws the same noise.
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._nucleus = TopPLogitsWarper(top_p) if top_p < 1 else None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Adds the noise to scores of shape (B, V)."""
        noisy = scores.float().clone()
        for row, (temperature, generator) in enumerate(zip(self._temperatures, self._generators, strict=True)):
            if temperature == 0:
                continue
            warm = noisy[row : row + 1] / temperature
            if self._nucleus is not None:
                warm = self._nucleus(input_ids[row : row + 1], warm)
            uniform = torch.rand(noisy.shape[1], generator=generator, dtype=torch.float64).clamp_(1e-300)
            noisy[row] = warm[0] - torch.log(-torch.log(uniform)).float().to(noisy.device)
        return noisy  # type: ignore[return-value]


class _AnswerLine(StoppingCriteria):
    """Ends a row at the line break after its answer line."""

    def __init__(self, tokenizer: Any, start: int) -> None:
        self._tokenizer = tokenizer
        self._start = start
        self._breaks: dict[int, bool] = {}

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        """Returns which rows are done, bool of shape (B,)."""
        done = [self._is_break(row[-1]) and self._has_answer(row) for row in input_ids.tolist()]
        return torch.tensor(done, device=input_ids.device)  # type: ignore[return-value]

    def _is_break(self, token: int) -> bool:
        if token not in self._breaks:
            self._breaks[token] = "\n" in self._tokenizer.decode([token])
        return self._breaks[token]

    def _has_answer(self, row: list[int]) -> bool:
        return ends_in_answer(self._tokenizer.decode(row[self._start :], skip_special_tokens=True))


def end_ids(network: Any, tokenizer: Any) -> set[int]:
    """Lists the tokens that end a completion.

    Args:
        network: A causal language model.
        tokenizer: Its tokenizer.

    Returns:
        The ids that the model's generation configuration and the tokenizer name.
    """
    configured = getattr(network.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, list) else [configured]
    return {int(token) for token in (*several, tokenizer.eos_token_id) if token is not None}
