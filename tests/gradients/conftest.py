from __future__ import annotations

import pytest
import torch
from gradient_helpers import Batch, make_batch, tiny_llama


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def model() -> torch.nn.Module:
    return tiny_llama()


@pytest.fixture
def double_model() -> torch.nn.Module:
    """In fp64 a comparison can be tight; Llama's norms still round to fp32 inside."""
    return tiny_llama(torch.float64)


@pytest.fixture
def batch() -> Batch:
    return make_batch()
