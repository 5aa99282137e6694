"""A word-level tokenizer that holds every word that the packs, the families and the teacher can write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from isodistill.answers import ANSWER_PREFIX
from isodistill.isomers.packs import load_pack

SPECIAL = ("<pad>", "<eos>", "<unk>")
"""Padding, the end of a text, and any word that stands in no pack."""

_MARKS = "\n.,:;?!()"
_SPLITTER = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(r"[\n\d.,:;?!()]"), behavior="isolated"),
        pre_tokenizers.Split(Regex(" +"), behavior="removed"),
    ]
)
# A space before all but closing marks, and then none where a line, a bracket or the next digit of a number begins.
_DECODER = decoders.Sequence(
    [
        decoders.Replace(Regex(r"^(?=[^\n.,:;?!)])"), " "),
        decoders.Fuse(),
        decoders.Replace(Regex(r"\A |(?<=[\n(]) |(?<=\d) (?=\d)"), ""),
    ]
)


def pieces(text: str) -> list[str]:
    """Cuts a text into words, single digits, punctuation marks and line breaks; spaces are dropped.

    Args:
        text: Any text.

    Returns:
        The pieces.
    """
    return [piece for piece, _ in _SPLITTER.pre_tokenize_str(text)]


def collect_vocabulary(texts: Iterable[str], packs: Iterable[str]) -> list[str]:
    """Collects the pieces of the packs, of the answer line and of sample texts, in alphabetical order.

    Any word of a pack may come to open a sentence, so each stands with a capital too.

    Args:
        texts: Texts for what stands in no pack: the teacher's own phrases.
        packs: The ids of the packs.

    Returns:
        The pieces.
    """
    found = set("0123456789") | set(_MARKS)
    for text in (f"{ANSWER_PREFIX} True False Unknown Yes No", *texts):
        found.update(pieces(text))
    words = pack_pieces(packs)
    found.update(words, (word[0].upper() + word[1:] for word in words))
    return sorted(found)


def pack_pieces(packs: Iterable[str]) -> set[str]:
    """Collects the pieces of packs as they are written there.

    Args:
        packs: The ids of the packs.

    Returns:
        The pieces.
    """
    return {
        piece
        for name in packs
        for text in _strings(load_pack(name).model_dump())
        for piece in pieces(_without_slots(text))
    }


def make_tokenizer(vocabulary: Iterable[str]) -> PreTrainedTokenizerFast:
    """Builds the tokenizer.

    Args:
        vocabulary: Pieces, see `collect_vocabulary`.

    Returns:
        A tokenizer that decodes to the text that was encoded if its words are known and single spaces part them.
    """
    ids = {piece: place for place, piece in enumerate((*SPECIAL, *vocabulary))}
    inner = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    inner.pre_tokenizer = _SPLITTER
    inner.decoder = _DECODER
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def _without_slots(template: str) -> str:
    return " ".join(part for place, part in enumerate(template.replace("}", "{").split("{")) if place % 2 == 0)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _strings(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _strings(entry)
