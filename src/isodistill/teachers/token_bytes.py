"""The bytes that a token stands for, so that two tokenizers can be laid side by side."""

from __future__ import annotations

import re
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_bytes(tokenizer: Any) -> dict[int, bytes]:
    """Spells out a vocabulary.

    Args:
        tokenizer: A fast transformers tokenizer: byte-level BPE, sentencepiece, or whole words.

    Returns:
        The bytes of each token by id; a special token stands for its own name.
    """
    backend = tokenizer.backend_tokenizer
    machinery = f"{backend.decoder!r} {backend.pre_tokenizer!r}"
    byte_level, sentencepiece = "ByteLevel" in machinery, "▁" in machinery
    of_sign = {sign: value for value, sign in bytes_to_unicode().items()}
    added = set(tokenizer.added_tokens_decoder)
    spelt = {}
    for token, index in tokenizer.get_vocab().items():
        if index in added:
            spelt[index] = token.encode()
        elif byte_level:
            spelt[index] = bytes(of_sign[sign] for sign in token if sign in of_sign)
        elif sentencepiece and (match := _BYTE_TOKEN.fullmatch(token)):
            spelt[index] = bytes([int(match[1], 16)])
        else:
            spelt[index] = (token.replace("▁", " ") if sentencepiece else token).encode()
    return spelt


def spans(text: bytes, tokens: list[bytes]) -> list[tuple[int, int]]:
    """Finds where tokens lie in a text.

    Args:
        text: The text.
        tokens: Its tokens, in order, with special ones between and after them.

    Returns:
        The start and the end of each; one that is not in the text takes no room. A blank that a tokenizer puts before
        the first word is passed over.
    """
    found = []
    place = 0
    for token in tokens:
        if not place and token.startswith(b" ") and not text.startswith(b" "):
            token = token[1:]
        end = place + len(token) if token and text.startswith(token, place) else place
        found.append((place, end))
        place = end
    return found
