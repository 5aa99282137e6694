"""Everything that determines a data set, checked before any work is done."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from isodistill.errors import IsodistillError
from isodistill.isomers.families import Family, make_family
from isodistill.isomers.packs import DEFAULT_UNSEEN_PACKS, TRAINING_PACKS, Pack, load_pack
from isodistill.isomers.shortcut import Shortcut, check_packs
from isodistill.isomers.splits import SPLITS, Group, SplitBy, SplitSpec
from isodistill.validation import first_fault


def _depths(bounds: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= bounds[0] <= bounds[1]:
        raise ValueError("depths must be (least, most) with 1 <= least <= most")
    return bounds


def _domains(names: tuple[str, ...]) -> tuple[str, ...]:
    """Loads the packs that are given as files, which are known by their ids from then on."""
    return tuple(load_pack(name).id if name.endswith((".yaml", ".yml")) else name for name in names)


Depths = Annotated[tuple[int, int], AfterValidator(_depths)]
Domains = Annotated[tuple[str, ...], AfterValidator(_domains)]


class GenerationConfig(BaseModel):
    """Everything that determines a data set.

    Args:
        family: The problem family.
        options: The family's options by name.
        domains: The training domains: ids of domain packs, ``nonce:SEED``, or YAML files.
        unseen_domains: Domains for testing only.
        sets: The number of training sets.
        validation_sets: The number of validation sets.
        test_sets: The number of test problems, and of deeper ones.
        depth: The least and the most depth.
        deeper: The least and the most depth of the split ``deeper``; by default the next two depths.
        shortcut: The shortcut to plant, if any.
        seed: The seed: equal configs give equal data.
        max_sets_per_skeleton: How many sets of a group may share a skeleton, each in other words; more than one is
            needed where short problems leave fewer skeletons than sets.
        split_by: ``"structure"``: train, validation and test share no structure; ``"wording"``: they may, but no
            problem appears twice in the same words. Short problems, which have few structures, need the latter.
        label_noise: The share of the training sets, in [0, 1), that teachers will answer wrongly, all members alike.
            A shortcut goes with the answer that is taught, as an annotator's habit goes with the annotator's mistakes.
        audit: Whether it is an error if a linear probe on word counts can tell the answer (the cue left out).
        told_in: In how many of the training domains each training set is told, drawn for each set; ``None`` for all.
            With many domains it keeps a batch of whole sets small and brings more logic for the same text. Validation
            and test sets are told in all of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str = "deduction"
    options: dict[str, Any] = Field(default_factory=dict)
    domains: Domains = TRAINING_PACKS
    unseen_domains: Domains = DEFAULT_UNSEEN_PACKS
    sets: int = Field(default=500, ge=1)
    validation_sets: int = Field(default=100, ge=0)
    test_sets: int = Field(default=200, ge=0)
    depth: Depths = (1, 3)
    deeper: Depths | None = None
    shortcut: Shortcut | None = None
    seed: int = 0
    max_sets_per_skeleton: int = Field(default=1, ge=1)
    split_by: SplitBy = "structure"
    label_noise: float = Field(default=0.0, ge=0, lt=1)
    audit: bool = True
    told_in: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _check(self) -> GenerationConfig:
        every = (*self.domains, *self.unseen_domains)
        if not self.domains or len(set(every)) != len(every):
            raise ValueError("domains must name at least one pack, and no pack twice among domains and unseen_domains")
        if self.deeper is not None and self.deeper[0] <= self.depth[1]:
            raise ValueError("deeper must begin above depth")
        if self.told_in is not None and self.told_in > len(self.domains):
            raise ValueError(f"told_in={self.told_in} exceeds the number of training domains, {len(self.domains)}")
        return self

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `told_in` out where it is not set: data of earlier versions keep their digests."""
        return {name: value for name, value in handler(self).items() if name != "told_in" or value is not None}

    @property
    def deeper_depths(self) -> tuple[int, int]:
        """The least and the most depth of the split ``deeper``."""
        return self.deeper or (self.depth[1] + 1, self.depth[1] + 2)

    def count(self, group: Group) -> int:
        """Tells how many problems a group has."""
        return {"train": self.sets, "validation": self.validation_sets}.get(group, self.test_sets)

    def splits(self) -> tuple[SplitSpec, ...]:
        """Lists the splits that the data set will have, in order."""
        return tuple(
            split
            for split in SPLITS
            if self.count(split.group)
            and not (split.only_with_shortcut and self.shortcut is None)
            and not (split.unseen and not self.unseen_domains)
        )


def make_config(**values: Any) -> GenerationConfig:
    """Builds a config from plain values, with errors for people.

    Args:
        **values: The fields of `GenerationConfig`.

    Returns:
        The config, with family, options, domains and shortcut checked.

    Raises:
        IsodistillError: If a field is unknown or has a wrong value.
    """
    try:
        config = GenerationConfig.model_validate(values)
    except ValidationError as error:
        place, reason = first_fault(error, known=GenerationConfig.model_fields)
        raise IsodistillError(f"In the generation config, {place}: {reason}; mend it.") from None
    prepare(config)
    return config


def prepare(config: GenerationConfig) -> tuple[Family, dict[str, Pack]]:
    """Loads what a config names, and finds what is wrong with it before any work is done.

    Args:
        config: The config.

    Returns:
        The family with its options, and every domain pack by its id.

    Raises:
        IsodistillError: If a family, option or pack is unknown, a depth is beyond the family's, or the shortcut does
            not fit the packs and domains.
    """
    family = make_family(config.family, config.options)
    for name, (_, most) in (("depth", config.depth), ("deeper", config.deeper_depths)):
        wanted = name == "depth" or config.test_sets > 0
        if wanted and family.max_depth is not None and most > family.max_depth:
            said = " (by default the two depths above depth)" if name == "deeper" and config.deeper is None else ""
            raise IsodistillError(
                f"Problems of the family {family.name!r} have a depth of {family.max_depth} at most, and {name}{said} "
                f"asks for {most}: lower it."
            )
    packs = {name: load_pack(name) for name in (*config.domains, *config.unseen_domains)}
    if config.shortcut is not None:
        source = config.shortcut.sentences_of
        check_packs(list(packs.values()) if source is None else [load_pack(source)], len(family.classes))
        for domain in config.domains:
            config.shortcut.rate_in(domain)
    return family, packs
