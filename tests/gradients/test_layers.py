from __future__ import annotations

import pytest
import torch
from gradient_helpers import tiny_llama
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from isodistill.errors import IsodistillError
from isodistill.gradients import find_adapted_layers


def refusal(model: torch.nn.Module) -> str:
    with pytest.raises(IsodistillError) as caught:
        find_adapted_layers(model)
    return str(caught.value)


def test_finds_every_layer_with_its_factors_and_scaling():
    layers = find_adapted_layers(tiny_llama(use_rslora=True, r=4, lora_alpha=8))
    assert len(layers) == 14
    assert layers[0].name == "model.layers.0.self_attn.q_proj"
    assert {layer.name.rsplit(".", 1)[1] for layer in layers} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    key = next(layer for layer in layers if layer.name.endswith("k_proj"))
    assert (tuple(key.A.shape), tuple(key.B.shape)) == ((4, 32), (16, 4))
    assert key.factor("lora_A") is key.A
    assert key.factor("lora_B") is key.B
    assert key.scaling == pytest.approx(8 / 4**0.5)


def test_layers_without_adapter_are_left_out():
    assert [x.name for x in find_adapted_layers(tiny_llama(target_modules=["v_proj"], layers_to_transform=[1]))] == [
        "model.layers.1.self_attn.v_proj"
    ]


def test_model_without_lora_is_refused():
    config = LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    assert "no trainable LoRA layer" in refusal(LlamaForCausalLM(config))


def test_frozen_adapter_is_refused():
    model = tiny_llama()
    model.requires_grad_(False)
    assert "no trainable LoRA layer" in refusal(model)


def test_dora_is_refused():
    message = refusal(tiny_llama(use_dora=True))
    assert "model.layers.0.self_attn.q_proj" in message
    assert "use_dora=True" in message


def test_lora_bias_is_refused():
    message = refusal(tiny_llama(lora_bias=True))
    assert "model.layers.0.self_attn.q_proj" in message
    assert "lora_bias" in message


def test_trainable_biases_are_refused():
    class Biased(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)

    message = refusal(get_peft_model(Biased(), LoraConfig(r=2, target_modules=["linear"], bias="all")))
    assert "linear.base_layer.bias" in message
    assert "outside LoRA" in message


def test_modules_to_save_is_refused():
    message = refusal(tiny_llama(modules_to_save=["lm_head"]))
    assert "lm_head" in message
    assert "modules_to_save" in message


def test_embedding_lora_is_refused():
    message = refusal(tiny_llama(target_modules=["q_proj", "embed_tokens"]))
    assert "embed_tokens" in message
    assert "embedding" in message


def test_convolution_is_refused():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2))
    message = refusal(get_peft_model(network, LoraConfig(r=2, target_modules=["0", "1"])))
    assert "layer 0" in message
    assert "linear layers only" in message


def test_bare_parameters_are_refused():
    message = refusal(tiny_llama(target_modules=["q_proj"], target_parameters=["mlp.up_proj.weight"]))
    assert "mlp.up_proj" in message
    assert "target_parameters" in message


def test_merged_adapter_is_refused_until_unmerged():
    model = tiny_llama()
    model.merge_adapter()
    message = refusal(model)
    assert "model.layers.0.self_attn.q_proj" in message
    assert "unmerge_adapter" in message
    model.unmerge_adapter()
    assert len(find_adapted_layers(model)) == 14


def test_two_trainable_adapters_are_refused():
    model = tiny_llama()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    model.base_model.set_adapter(["default", "second"])
    message = refusal(model)
    assert "default, second" in message
    assert "set_adapter" in message


def test_an_idle_second_adapter_is_no_obstacle():
    model = tiny_llama()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    model.set_adapter("second")
    assert {layer.adapter for layer in find_adapted_layers(model)} == {"second"}
