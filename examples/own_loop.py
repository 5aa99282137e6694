"""IGA in a plain PyTorch loop: a tiny model, random tokens, no trainer. Runs in seconds."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from isodistill import GradientAligner, MaskedAdamW

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=100,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)
model = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=8, target_modules="all-linear"))
optimizer = MaskedAdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
aligner = GradientAligner(model, method="iga")
aligner.attach_optimizer(optimizer)  # it measures its step by the gradient before the mask

domain_ids = torch.arange(4).repeat(4)  # four sets, each with one sequence in every domain
shared = torch.randint(0, 100, (4, 12)).repeat_interleave(4, 0)  # what the members of a set have in common
for step in range(20):
    input_ids = shared.clone()
    input_ids[:, :2] = torch.randint(0, 100, (16, 2))  # what differs between them
    with aligner.record(domain_ids):
        loss = model(input_ids=input_ids, labels=input_ids).loss
        loss.backward()
    diagnostics = aligner.step()
    optimizer.step()
    optimizer.zero_grad()
    if step % 5 == 4:
        print(f"step {step + 1}: loss {loss.item():.3f}, mean mask {diagnostics.mean_mask:.3f}")
