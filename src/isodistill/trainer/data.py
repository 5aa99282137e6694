"""Turns data-set rows into member rows for TRL, and token rows back into whole isomer sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from isodistill.errors import IsodistillError
from isodistill.prompting import plain_prompt, prompt_messages


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
        dataset: Rows with ``set_id`` and ``members`` (the on-disk format), or flat rows with ``set_id``, ``domain``,
            ``prompt`` and ``completion``.
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
        for column in ("domain", "set_id", "prompt", "completion"):
            if column not in columns:
                raise IsodistillError(
                    f"the data set has no {column!r} column (it has {', '.join(sorted(columns)) or 'none'}): give"
                    " isomer sets with 'members', or rows with set_id, domain, prompt and completion"
                )
        for row in dataset:
            member_row = MemberRow(str(row["set_id"]), row["domain"], row["prompt"], row["completion"])
            sets.setdefault(member_row.set_id, []).append(member_row)
    _check_sets(sets)
    return [member for members in sets.values() for member in sorted(members, key=lambda m: m.domain)]


def _require(row: Mapping[str, Any], names: tuple[str, ...], place: str) -> None:
    for name in names:
        if name not in row:
            raise IsodistillError(f"{place} has no {name!r} field: each member needs domain, prompt and completion")


def _check_sets(sets: dict[str, list[MemberRow]]) -> None:
    if not sets:
        raise IsodistillError("the data set is empty: generate isomer sets first (`isodistill generate`)")
    domains = sorted({member.domain for members in sets.values() for member in members})
    for set_id, members in sets.items():
        present = sorted(member.domain for member in members)
        missing = sorted(set(domains) - set(present))
        if missing:
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


def group_sets(tokenised: Dataset, members: list[MemberRow], domains: list[str], max_length: int | None) -> Dataset:
    """Groups tokenised members back into one row for each isomer set.

    Args:
        tokenised: TRL's output: input_ids, labels, domain, set_id; one row for each member, in order.
        members: The members that went in.
        domains: The domains' names; a member's domain id is its position here.
        max_length: TRL's truncation length, for the error message.

    Returns:
        A data set with the columns set_id, domain_ids (K,), input_ids (K lists) and labels (K lists).

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
    for row in tokenised.select_columns(["set_id", "domain", "input_ids", "labels"]):
        group = rows.setdefault(
            row["set_id"], {"set_id": row["set_id"], "domain_ids": [], "input_ids": [], "labels": []}
        )
        group["domain_ids"].append(domains.index(row["domain"]))
        group["input_ids"].append(row["input_ids"])
        group["labels"].append(row["labels"])
    return Dataset.from_list(list(rows.values()))


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
            input_ids, attention_mask and labels of shape (S * K, length), int64, and domain_ids (S * K,), int64.
        """
        sequences = [
            {"input_ids": ids, "labels": labels}
            for row in sets
            for ids, labels in zip(row["input_ids"], row["labels"], strict=True)
        ]
        batch: dict[str, torch.Tensor] = self._sequences(sequences)
        batch["domain_ids"] = torch.tensor([domain for row in sets for domain in row["domain_ids"]])
        return batch
