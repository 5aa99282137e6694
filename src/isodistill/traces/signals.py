"""A teacher's token distributions over a completion, in a few bytes for each token."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isodistill.errors import IsodistillError

_HEADER = struct.Struct("<4sBII")  # magic, bytes of an id, tokens, k
_MAGIC = b"IDTS"
_LARGEST = 1 << 28
"""No signal unpacks to more bytes than this: a damaged length must not fill the memory."""


@dataclass(frozen=True)
class TokenSignal:
    """The k likeliest tokens at each position of a completion, and their log-probabilities.

    Args:
        token_ids: The completion itself, int64 of shape (T,).
        top_ids: The likeliest tokens, likeliest first, int64 of shape (T, k).
        top_logprobs: Their natural log-probabilities at temperature 1, float32 of shape (T, k).

    Raises:
        ValueError: If the shapes do not belong together.
    """

    token_ids: NDArray[np.int64]
    top_ids: NDArray[np.int64]
    top_logprobs: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Checks the shapes."""
        if self.token_ids.ndim != 1 or self.top_ids.ndim != 2 or self.top_ids.shape[0] != self.token_ids.shape[0]:
            raise ValueError(f"token_ids {self.token_ids.shape} and top_ids {self.top_ids.shape} do not fit")
        if self.top_logprobs.shape != self.top_ids.shape:
            raise ValueError(f"top_logprobs {self.top_logprobs.shape} and top_ids {self.top_ids.shape} differ")

    @property
    def k(self) -> int:
        """How many tokens are kept for each position."""
        return int(self.top_ids.shape[1])

    def to_bytes(self) -> bytes:
        """Packs the signal: ids in 2 or 4 bytes, log-probabilities as float16, then zlib.

        Returns:
            At most 6 k + 4 bytes for each token before compression (4 k + 2 for vocabularies up to 65,536).
        """
        largest = int(max(self.token_ids.max(initial=0), self.top_ids.max(initial=0)))
        width = 2 if largest < 1 << 16 else 4
        ids = f"<u{width}"
        # Columns, not rows: the likeliest tokens resemble each other along the text, which zlib can use.
        parts = (
            self.token_ids.astype(ids).tobytes(),
            np.ascontiguousarray(self.top_ids.T).astype(ids).tobytes(),
            np.ascontiguousarray(self.top_logprobs.T).astype("<f2").tobytes(),
        )
        header = _HEADER.pack(_MAGIC, width, *self.top_ids.shape)
        return header + zlib.compress(b"".join(parts), level=6)

    @staticmethod
    def from_bytes(data: bytes, where: str = "the token signal") -> TokenSignal:
        """Unpacks what `to_bytes` has packed.

        Args:
            data: The bytes; untrusted.
            where: Named in the error.

        Returns:
            The signal.

        Raises:
            IsodistillError: If the bytes are damaged.
        """
        damaged = IsodistillError(f"{where} is damaged; prune it and score the trace again")
        if len(data) < _HEADER.size:
            raise damaged
        magic, width, tokens, k = _HEADER.unpack_from(data)
        size = tokens * (width + k * (width + 2))
        if magic != _MAGIC or width not in (2, 4) or size > _LARGEST:
            raise damaged
        inflater = zlib.decompressobj()
        try:
            raw = inflater.decompress(data[_HEADER.size :], size + 1)
        except zlib.error:
            raise damaged from None
        if len(raw) != size or not inflater.eof:
            raise damaged
        ids = np.frombuffer(raw, f"<u{width}", tokens * (1 + k)).astype(np.int64)
        logprobs = np.frombuffer(raw, "<f2", tokens * k, offset=tokens * width * (1 + k)).astype(np.float32)
        return TokenSignal(ids[:tokens], ids[tokens:].reshape(k, tokens).T.copy(), logprobs.reshape(k, tokens).T.copy())


def vocabulary_digest(tokenizer: Any) -> str:
    """Names a tokenizer's vocabulary by its content.

    Args:
        tokenizer: A transformers tokenizer.

    Returns:
        A SHA-256 digest of every token with its id.
    """
    entries = sorted((index, token) for token, index in tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(entries, ensure_ascii=True).encode()).hexdigest()


def check_same_vocabulary(teacher: Any, student: Any) -> None:
    """Refuses token distributions of a teacher whose tokens are not the student's.

    Args:
        teacher: The teacher's tokenizer.
        student: The student's tokenizer.

    Raises:
        IsodistillError: If the two vocabularies differ in a token or in its id.
    """
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    if ours == theirs:
        return
    differing = sorted(token for token in {*ours, *theirs} if ours.get(token) != theirs.get(token))
    raise IsodistillError(
        f"the teacher's vocabulary ({len(theirs)} tokens) is not the student's ({len(ours)}): {len(differing)} tokens"
        f" differ, such as {differing[0]!r}, so token distributions cannot be compared; take a teacher of the student's"
        " own model family, or train on the traces alone"
    )
