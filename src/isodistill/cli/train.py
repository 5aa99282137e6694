"""`isodistill train`: a YAML file, flags over it, and the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from trl.scripts.utils import TrlParser

from isodistill.cli.progress import console
from isodistill.errors import IsodistillError
from isodistill.trainer import IsomerConfig, TrainJob, run_training


def train_from_arguments(arguments: list[str]) -> None:
    """Parses a configuration file and flags, and trains.

    Args:
        arguments: ``[CONFIG.yaml] --option value ...``; flags win over the file. Options are the fields of
            `TrainJob` and `IsomerConfig` (so, everything of `trl.SFTConfig`).

    Raises:
        IsodistillError: if the file cannot be read, or an option is unknown or wrong.
    """
    job, config = parse_arguments(arguments)
    record, _ = run_training(job, config)
    console().print(
        f"{record.method}: {record.tokens} tokens in {record.seconds:.0f} s; adapter in {config.output_dir}"
    )


def parse_arguments(arguments: list[str]) -> tuple[TrainJob, IsomerConfig]:
    """Turns a configuration file and flags into a job and the trainer's configuration.

    Args:
        arguments: See `train_from_arguments`.

    Returns:
        The job and the configuration.

    Raises:
        IsodistillError: if the file cannot be read, or an option is unknown or wrong.
    """
    kinds: Any = [TrainJob, IsomerConfig]
    parser = TrlParser(kinds, prog="isodistill train [CONFIG.yaml]")
    flags = list(arguments)
    if flags and not flags[0].startswith("-"):
        path = Path(flags.pop(0))
        _apply_file(parser, path)
    try:
        job, config = parser.parse_args_into_dataclasses(args=flags)
    except ValueError as error:
        raise IsodistillError(f"the training options are wrong: {error}") from None
    return job, config


def _apply_file(parser: TrlParser, path: Path) -> None:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IsodistillError(f"configuration {path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise IsodistillError(f"configuration {path} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(values, dict):
        raise IsodistillError(f"configuration {path} must be a mapping of option names to values")
    unknown = parser.set_defaults_with_config(**values)
    if unknown:
        raise IsodistillError(f"configuration {path} has the unknown option {unknown[0].lstrip('-')!r}")
