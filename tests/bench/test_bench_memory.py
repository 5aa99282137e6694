"""What the memory benchmark counts."""

from __future__ import annotations

import torch

from isodistill.bench.memory import tensor_bytes


def test_a_storage_is_counted_once() -> None:
    before = tensor_bytes()
    first = torch.zeros(1000)
    views = [first[:10], first.view(10, 100)]
    assert tensor_bytes() - before == 4000
    del first, views
    assert tensor_bytes() == before
