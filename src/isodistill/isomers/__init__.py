"""Isomer sets: one skeleton of logic worn by several domains, generated and verified."""

from isodistill.isomers.config import GenerationConfig, make_config
from isodistill.isomers.generate import GenerationReport, generate
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.shortcut import Shortcut
from isodistill.isomers.skeleton import Skeleton
from isodistill.isomers.store import available_splits, read_split, write_dataset
from isodistill.isomers.verify import verify_set

__all__ = [
    "GenerationConfig",
    "GenerationReport",
    "IsomerSet",
    "Member",
    "Shortcut",
    "Skeleton",
    "available_splits",
    "generate",
    "make_config",
    "read_split",
    "verify_set",
    "write_dataset",
]
