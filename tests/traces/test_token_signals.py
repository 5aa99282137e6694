from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.errors import IsodistillError
from isodistill.traces import TokenSignal, TraceStore


def signal(tokens: int, k: int, vocabulary: int, seed: int = 0) -> TokenSignal:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(tokens, max(k, 2))) * 3
    logprobs = -np.sort(-(logits - np.log(np.exp(logits).sum(-1, keepdims=True))), axis=-1)[:, :k]
    return TokenSignal(
        generator.integers(0, vocabulary, tokens),
        generator.integers(0, vocabulary, (tokens, k)),
        logprobs.astype(np.float32),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from([50, 49_152, 65_536, 65_537, 256_000]))
def test_round_trip_and_size(tokens: int, k: int, vocabulary: int) -> None:
    made = signal(tokens, k, vocabulary)
    data = made.to_bytes()
    back = TokenSignal.from_bytes(data)
    np.testing.assert_array_equal(back.token_ids, made.token_ids)
    np.testing.assert_array_equal(back.top_ids, made.top_ids)
    np.testing.assert_allclose(back.top_logprobs, made.top_logprobs, rtol=1e-3, atol=1e-3)
    assert len(data) <= tokens * (4 + 6 * k) + 80


@pytest.mark.parametrize(("vocabulary", "k"), [(49_152, 64), (256_000, 48)])
def test_random_tokens_take_less_than_300_bytes(vocabulary: int, k: int) -> None:
    """Random ids are the worst case for the compression; real ones take about half."""
    assert len(signal(500, k, vocabulary).to_bytes()) / 500 < 300


def test_damaged_bytes_are_told() -> None:
    data = signal(10, 4, 1000).to_bytes()
    huge = data[:5] + (2**31).to_bytes(4, "little") + data[9:]
    for bad in (b"", data[:8], b"XXXX" + data[4:], data[:-3], huge, data[:13] + b"junk"):
        with pytest.raises(IsodistillError, match="is damaged"):
            TokenSignal.from_bytes(bad)


def test_shapes_that_do_not_fit_are_a_bug() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        TokenSignal(np.zeros(3, np.int64), np.zeros((2, 4), np.int64), np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="differ"):
        TokenSignal(np.zeros(2, np.int64), np.zeros((2, 4), np.int64), np.zeros((2, 3), np.float32))


def test_the_store_keeps_signals_by_everything_they_depend_on(tmp_path: Path) -> None:
    made = signal(12, 4, 1000)
    with TraceStore(tmp_path / "t.sqlite") as store:
        store.add_signal("prompt", "completion", "scorer", "vocabulary", 4, made)
        found = store.find_signal("prompt", "completion", "scorer", "vocabulary", 4)
        assert found is not None
        np.testing.assert_array_equal(found.top_ids, made.top_ids)
        for place in range(5):
            key: list[object] = ["prompt", "completion", "scorer", "vocabulary", 4]
            key[place] = 5 if place == 4 else "other"
            assert store.find_signal(*key) is None  # type: ignore[arg-type]
        assert store.signal_sizes() == (1, 12, len(made.to_bytes()))
        assert store.prune_signals() == 1
        assert store.signal_sizes() == (0, 0, 0)
