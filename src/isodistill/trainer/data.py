"""Turns data-set rows into member rows for TRL, and token rows back into whole isomer sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from isodistill.answers import split_completion
from isodistill.errors import IsodistillError
from isodistill.prompting import plain_prompt, prompt_messages
from isodistill.trainer.signals import signal_columns


@dataclass(frozen=True)
class MemberRow:
    """One problem of an isomer set, ready for training."""

    set_id: str
    domain: str
    prompt: str
    completion: str


def member_rows(dataset: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> list[MemberRow]:
    """Flattens isomer sets to members, in set order, and checks that every set is complete.

    Args:
        dataset: Rows with ``set_id`` and ``members`` (the on-disk format), or flat rows with ``domain``, ``prompt`` and
            ``completion``, and ``set_id`` where the data are paired; an unpaired row is a set of its own.
        columns: The names of the data set's columns.

    Returns:
        The members; those of one set stand together, in the order of their domains' names.

    Raises:
        IsodistillError: if a column is missing, a set lacks a domain or has it twice, or a completion is empty.
    """
    columns = set(columns)
    sets: dict[str, list[MemberRow]] = {}
    if "members" in columns:
        for position, row in enumerate(dataset):
            set_id = str(row.get("set_id", f"row {position}"))
            for member in row["members"]:
                _require(member, ("domain", "prompt", "completion"), f"set {set_id}: a member")
                sets.setdefault(set_id, []).append(
                    MemberRow(set_id, member["domain"], member["prompt"], member["completion"])
                )
    else:
        for column in ("domain", "prompt", "completion"):
            if column not in columns:
                raise IsodistillError(
                    f"the data set has no {column!r} column (it has {', '.join(sorted(columns)) or 'none'}): give"
                    " isomer sets with 'members', or rows with domain, prompt and completion, and set_id if paired"
                )
        for position, row in enumerate(dataset):
            set_id = str(row["set_id"]) if "set_id" in columns else f"row {position}"
            sets.setdefault(set_id, []).append(MemberRow(set_id, row["domain"], row["prompt"], row["completion"]))
    _check_sets(sets, is_paired(columns))
    return [member for members in sets.values() for member in sorted(members, key=lambda m: m.domain)]


def is_paired(columns: Iterable[str]) -> bool:
    """Tells whether a data set's rows form isomer sets.

    Args:
        columns: The names of the data set's columns.

    Returns:
        ``False`` for flat rows without a set id.
    """
    return bool({"members", "set_id"} & set(columns))


def _require(row: Mapping[str, Any], names: tuple[str, ...], place: str) -> None:
    for name in names:
        if name not in row:
            raise IsodistillError(f"{place} has no {name!r} field: each member needs domain, prompt and completion")


def _check_sets(sets: dict[str, list[MemberRow]], paired: bool) -> None:
    if not sets:
        raise IsodistillError("the data set is empty: generate isomer sets first (`isodistill generate`)")
    domains = sorted({member.domain for members in sets.values() for member in members})
    sizes = {len(members) for members in sets.values()}
    told_in_some = len(sizes) == 1 and min(sizes) > 1  # each set in as many of the domains: by design
    for set_id, members in sets.items():
        present = sorted(member.domain for member in members)
        missing = sorted(set(domains) - set(present))
        if missing and paired and not told_in_some:
            raise IsodistillError(
                f"set {set_id} has no member in domain {missing[0]!r}, while other sets have one: complete the set or"
                " drop it"
            )
        if len(present) != len(set(present)):
            twice = next(domain for domain in present if present.count(domain) > 1)
            raise IsodistillError(f"set {set_id} has more than one member in domain {twice!r}: keep one for each")
        for member in members:
            if not member.completion.strip():
                raise IsodistillError(
                    f"set {set_id}, domain {member.domain!r}: the completion is empty; run `isodistill distill` to"
                    " have a teacher write it"
                )


def training_rows(members: list[MemberRow], chat: bool, system_prompt: str | None) -> Dataset:
    """Builds the prompt-completion data set that TRL tokenises.

    Args:
        members: The members, those of a set together.
        chat: Whether the tokenizer has a chat template; if so the rows are conversations.
        system_prompt: See `IsomerConfig.system_prompt`.

    Returns:
        A data set with the columns prompt, completion, domain and set_id.
    """
    if chat:
        rows: list[dict[str, Any]] = [
            {
                "prompt": prompt_messages(member.prompt, system_prompt),
                "completion": [{"role": "assistant", "content": member.completion}],
            }
            for member in members
        ]
    else:
        rows = [{"prompt": plain_prompt(m.prompt, system_prompt), "completion": m.completion} for m in members]
    for row, member in zip(rows, members, strict=True):
        row["domain"], row["set_id"] = member.domain, member.set_id
    return Dataset.from_list(rows)


def group_sets(
    tokenised: Dataset, members: list[MemberRow], domains: list[str], max_length: int | None, tokenizer: Any
) -> Dataset:
    """Groups tokenised members back into one row for each isomer set.

    Args:
        tokenised: TRL's output: input_ids, labels, domain, set_id; one row for each member, in order.
        members: The members that went in.
        domains: The domains' names; a member's domain id is its position here.
        max_length: TRL's truncation length, for the error message.
        tokenizer: Finds the token with which a completion states its answer.

    Returns:
        A data set with the columns set_id, domain_ids (K,), answer_positions (K,), input_ids and labels (K lists).

    Raises:
        IsodistillError: if truncation removed the whole completion of a member.
    """
    kept = list(zip(tokenised["set_id"], tokenised["domain"], strict=True))
    if len(kept) != len(members):
        seen = set(kept)
        lost = next(member for member in members if (member.set_id, member.domain) not in seen)
        raise IsodistillError(
            f"set {lost.set_id}, domain {lost.domain!r}: the prompt alone fills max_length={max_length}, so nothing of"
            " the completion is left; raise max_length"
        )
    rows: dict[str, dict[str, Any]] = {}
    for row, member in zip(tokenised.select_columns(["set_id", "domain", "input_ids", "labels"]), members, strict=True):
        group = rows.setdefault(
            row["set_id"],
            {"set_id": row["set_id"], "domain_ids": [], "answer_positions": [], "input_ids": [], "labels": []},
        )
        group["answer_positions"].append(answer_position(row["labels"], member.completion, tokenizer))
        group["domain_ids"].append(domains.index(row["domain"]))
        group["input_ids"].append(row["input_ids"])
        group["labels"].append(row["labels"])
    return Dataset.from_list(list(rows.values()))


def answer_position(labels: list[int], completion: str, tokenizer: Any) -> int:
    """Finds the token with which a completion begins to state its answer.

    Args:
        labels: The sequence's labels, -100 before the completion.
        completion: The completion's text.
        tokenizer: Decodes the labels.

    Returns:
        A position in the sequence: that of the first token of the text after the last ``Answer:``; the first label
        where there is no such line, or where truncation cut it off.
    """
    first = next(position for position, label in enumerate(labels) if label != -100)
    answer = split_completion(completion)[1]
    if answer is None:
        return first
    wanted = "".join(answer.split())
    # The shortest tail of the tokens that spells the answer starts with it.
    for start in range(len(labels) - 1, first - 1, -1):
        if wanted in "".join(tokenizer.decode(labels[start:], skip_special_tokens=True).split()):
            return start
    return first


def shuffle_domains(sets: Dataset, seed: int) -> Dataset:
    """Permutes the domain labels, as a control: what a method gains with them it must lose without them.

    Paired data are permuted inside each set, so a set still has one member of each label; unpaired rows are
    permuted as a whole. The labels of a row stay the same through all epochs.

    Args:
        sets: The output of `group_sets`.
        seed: Seeds the permutations.

    Returns:
        The same sets with other domain ids.
    """
    generator = torch.Generator().manual_seed(seed)
    old: list[list[int]] = sets["domain_ids"][:]
    if all(len(ids) == 1 for ids in old):
        order = torch.randperm(len(old), generator=generator).tolist()
        new = [old[position] for position in order]
    else:
        new = [[ids[p] for p in torch.randperm(len(ids), generator=generator).tolist()] for ids in old]
    return sets.remove_columns("domain_ids").add_column("domain_ids", new)


@dataclass
class IsomerCollator:
    """Flattens whole isomer sets to a padded batch of sequences with their domains.

    Args:
        pad_token_id: The padding token.
        pad_to_multiple_of: Pads the length to a multiple of this, or not.
    """

    pad_token_id: int
    pad_to_multiple_of: int | None = None
    _sequences: DataCollatorForLanguageModeling = field(init=False)

    def __post_init__(self) -> None:
        """Makes TRL's collator, which pads the sequences."""
        self._sequences = DataCollatorForLanguageModeling(
            pad_token_id=self.pad_token_id, pad_to_multiple_of=self.pad_to_multiple_of
        )

    def __call__(self, sets: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collates sets.

        Args:
            sets: S rows of `group_sets`.

        Returns:
            input_ids, attention_mask and labels of shape (S * K, length), int64, and domain_ids, set_ids (the set's
            place in the batch) and answer_positions, each (S * K,), int64; with stored distributions teacher_ids and
            teacher_logprobs as well (see `signal_columns`).
        """
        sequences = [
            {"input_ids": ids, "labels": labels}
            for row in sets
            for ids, labels in zip(row["input_ids"], row["labels"], strict=True)
        ]
        batch: dict[str, torch.Tensor] = self._sequences(sequences)
        for column in ("domain_ids", "answer_positions"):
            batch[column] = torch.tensor([value for row in sets for value in row[column]])
        batch["set_ids"] = torch.tensor([place for place, row in enumerate(sets) for _ in row["domain_ids"]])
        if "signals" in sets[0]:
            batch |= signal_columns([packed for row in sets for packed in row["signals"]], batch["labels"])
        return batch
