"""From text to token ids and padded batches, the same for writing and for scoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from isodistill.answers import ANSWER_PREFIX
from isodistill.errors import IsodistillError


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Tokenises texts that start with a rendered prompt.

    A chat template writes its special tokens into the text, so none are added to it; a text without
    a template gets the tokenizer's own start tokens. A closing EOS that the tokenizer adds is taken
    off, since the student is to continue the text.

    Args:
        tokenizer: A transformers tokenizer.
        texts: The texts.

    Returns:
        One list of token ids per text, not padded.
    """
    if not texts:
        return []
    templated = bool(getattr(tokenizer, "chat_template", None))
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=not templated)["input_ids"]
    if templated or tokenizer.eos_token_id is None:
        return encoded
    bare: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    eos = tokenizer.eos_token_id
    return [
        full[:-1] if full[-1:] == [eos] and plain[-1:] != [eos] else full
        for full, plain in zip(encoded, bare, strict=True)
    ]


def choice_ids(tokenizer: Any, choice: str) -> list[int]:
    """Tokenises a choice as it stands after the answer prefix.

    Args:
        tokenizer: A transformers tokenizer.
        choice: A choice of the closed answer set, for example ``"True"``.

    Returns:
        The ids of ``" True"`` in the context of ``"Answer:"``; at least one.

    Raises:
        IsodistillError: If the tokenizer knows no token for the choice.
    """
    context: list[int] = tokenizer(ANSWER_PREFIX, add_special_tokens=False)["input_ids"]
    joint: list[int] = tokenizer(f"{ANSWER_PREFIX} {choice}", add_special_tokens=False)["input_ids"]
    if joint[: len(context)] == context:
        ids = joint[len(context) :]
    else:  # The tokenizer merges across the boundary: the choice alone is the nearest reading.
        ids = tokenizer(f" {choice}", add_special_tokens=False)["input_ids"]
    if not ids:
        raise IsodistillError(f"The student's tokenizer turns the choice {choice!r} into no token; rename the choice.")
    return ids


def pad_id(tokenizer: Any) -> int:
    """Finds the id that fills up a batch; it is always masked out.

    Args:
        tokenizer: A transformers tokenizer.

    Returns:
        The pad token's id, else the EOS token's.

    Raises:
        IsodistillError: If the tokenizer has neither.
    """
    for value in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if value is not None:
            return int(value)
    raise IsodistillError("The student's tokenizer has neither a pad nor an EOS token: set tokenizer.pad_token.")


def pad_batch(
    sequences: Sequence[Sequence[int]], pad: int, side: str, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pads sequences to one rectangle.

    Args:
        sequences: B lists of token ids.
        pad: The id to fill with.
        side: ``"left"`` or ``"right"``: where the padding goes.
        device: Where the tensors go.

    Returns:
        ``(ids, mask)``, both int64 of shape (B, T); the mask is 1 on tokens and 0 on padding.
    """
    length = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), length), pad, dtype=torch.long)
    mask = torch.zeros((len(sequences), length), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        span = slice(length - len(sequence), length) if side == "left" else slice(0, len(sequence))
        ids[row, span] = torch.tensor(sequence, dtype=torch.long)
        mask[row, span] = 1
    return ids.to(device), mask.to(device)


def batches_by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Groups sequences of similar length, longest first, so that little is padded.

    Longest first makes a batch that does not fit in memory fail at once and not at the end.

    Args:
        lengths: The sequences' lengths in tokens.
        batch_size: The largest number of sequences in a batch.

    Yields:
        Indices into `lengths`; every index exactly once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def base_model(model: Any) -> Any:
    """Returns the causal language model inside a PEFT wrapper, adapters in place.

    Args:
        model: A transformers causal language model or a `peft.PeftModel` around one.

    Returns:
        The transformers model. LoRA layers stay injected, so its forward applies the active adapter.

    Raises:
        IsodistillError: If the adapter works by prompt learning (it would be lost) or the model has
            no language-model head.
    """
    if hasattr(model, "peft_config"):
        for name, config in model.peft_config.items():
            if getattr(config, "is_prompt_learning", False):
                raise IsodistillError(
                    f"Adapter '{name}' is a prompt-learning adapter ({config.peft_type}), which evaluation does not "
                    "support: use LoRA or merge it."
                )
        model = model.get_base_model()
    if model.get_output_embeddings() is None:
        raise IsodistillError(f"{type(model).__name__} has no language-model head: load a causal language model.")
    return model


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Switches dropout off and gradients off, and puts every module's training flag back afterwards.

    Args:
        model: The model; its modules may be in mixed modes.

    Yields:
        Nothing; the block runs in inference mode.
    """
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in flags.items():
            module.training = training


@contextmanager
def mixed_precision(model: Any, wanted: bool) -> Iterator[None]:
    """Runs a model in bf16 autocast, but for its language-model head, which stays in the precision of its weights.

    Logits in bf16 lie an eighth apart where they are large, so two choices would tie that the student tells apart.

    Args:
        model: The transformers model, see `base_model`.
        wanted: Whether to; ``False`` changes nothing.

    Yields:
        Nothing; the block runs in that precision.
    """
    if not wanted:
        yield
        return
    head = model.get_output_embeddings()
    device = head.weight.device.type
    left: list[torch.autocast] = []

    def leave(module: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        outside = torch.autocast(device, enabled=False)
        outside.__enter__()
        left.append(outside)
        return (args[0].to(module.weight.dtype), *args[1:])

    def come_back(*_: Any) -> None:
        if left:  # another hook's error may have come before `leave`
            left.pop().__exit__(None, None, None)

    handles = [
        head.register_forward_pre_hook(leave),
        head.register_forward_hook(come_back, always_call=True),  # after an error in the head too
    ]
    try:
        with torch.autocast(device, dtype=torch.bfloat16):
            yield
    finally:
        for handle in handles:
            handle.remove()


def check_lengths(model: Any, lengths: Sequence[int], extra: int, what: str) -> None:
    """Refuses sequences that do not fit into the student's context, before the costly work.

    Args:
        model: The transformers model.
        lengths: Prompt lengths in tokens.
        extra: Tokens that will come after the prompt.
        what: What is about to be done, for the message.

    Raises:
        IsodistillError: If the longest sequence exceeds the model's positions.
    """
    limit = getattr(model.config, "max_position_embeddings", None)
    longest = max(lengths, default=0)
    if limit is not None and longest + extra > limit:
        raise IsodistillError(
            f"Cannot {what}: the longest text has {longest} tokens, which with {extra} more exceeds the student's "
            f"{limit} positions; lower max_new_tokens or drop the long problems."
        )
