"""The lab student's folder in the cache: pretrained once for each configuration, found again afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from isodistill.errors import IsodistillError
from isodistill.files import write_text_atomically
from isodistill.isomers.families import FAMILIES
from isodistill.lab.config import LabConfig
from isodistill.lab.corpus import draw_text
from isodistill.lab.pretrain import Progress, make_model, pretrain
from isodistill.lab.vocabulary import collect_vocabulary, make_tokenizer

CONFIG_FILE = "lab.json"
"""The configuration, beside the weights."""

_SAMPLES = 3000  # texts read for the teacher's phrases; a phrase that none of them holds becomes <unk>
_RETIRED = "just properties these three two would"
"""Words of phrases that the teacher no longer uses: a student's first weights hang on the size of its vocabulary."""


def lab_folder(config: LabConfig, cache: Path) -> Path:
    """Names the folder that the lab student has once it is pretrained.

    Args:
        config: What determines the student.
        cache: The folder that holds students.

    Returns:
        The folder, there or not.
    """
    return cache / f"lab-{config.digest()}"


def untrained_lab(config: LabConfig) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Makes the lab student as it is before its pretraining: as large and as fast, and of no use.

    Args:
        config: What determines the student.

    Returns:
        The model and its tokenizer.
    """
    tokenizer = make_tokenizer(_vocabulary(config))
    return make_model(config, tokenizer), tokenizer


def build_lab(config: LabConfig, cache: Path, progress: Progress | None = None) -> Path:
    """Pretrains the lab student, or finds it in the cache.

    A second process that asks for the same student waits for the first. A killed training goes on from its last
    checkpoint.

    Args:
        config: What determines the student.
        cache: The folder that holds students.
        progress: Called as ``progress("pretrain", done, total)`` after each step; by default a bar on the terminal.

    Returns:
        A folder with the model, its tokenizer and ``lab.json``, for `from_pretrained`.

    Raises:
        IsodistillError: If the cache cannot be written.
    """
    folder = lab_folder(config, cache)
    if folder.is_dir():
        return folder
    unfinished = cache / f".{folder.name}"
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):
            if folder.is_dir():
                return folder
            unfinished.mkdir(exist_ok=True)
            tokenizer = make_tokenizer(_vocabulary(config))
            with _bar() as bar:
                model = pretrain(config, tokenizer, unfinished, progress or bar)
            finished = unfinished / "student"
            shutil.rmtree(finished, ignore_errors=True)
            model.save_pretrained(finished)
            tokenizer.save_pretrained(finished)
            write_text_atomically(finished / CONFIG_FILE, config.model_dump_json(indent=1) + "\n")
            os.replace(finished, folder)
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise IsodistillError(
            f"The lab student cannot be written to {cache} ({error.strerror}); set ISODISTILL_CACHE to another folder."
        ) from error
    return folder


@contextmanager
def _bar() -> Iterator[Progress]:
    with tqdm(desc="pretraining the lab student, once", unit="step", delay=1) as bar:

        def move(_stage: str, done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield move


def _vocabulary(config: LabConfig) -> list[str]:
    # Of every family: a student that has not read the solutions of one can still be trained to write them.
    solved = config.model_copy(update={"solved": 0.9, "ramp": 0.0, "families": tuple(FAMILIES)})
    texts = (
        "".join(prompt + completion for prompt, completion in draw_text(solved, -1 - number))
        for number in range(_SAMPLES)
    )
    return collect_vocabulary([_RETIRED, *texts], config.packs)
