"""Gradient alignment for a training loop of your own: record, step, then the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from isodistill.errors import IsodistillError
from isodistill.gradients.engines import engine_class
from isodistill.gradients.layers import as_float32, factor_name, find_adapted_layers
from isodistill.last_layer import LastLayerTap
from isodistill.methods import Diagnostics, Forward, Method, RunInfo, build_method, build_penalty
from isodistill.optim import PLAIN_GRADIENT, MaskedAdamW
from isodistill.update_mask import mask_updates
from isodistill.window import WindowCollector, num_processes

DomainWeighting = Literal["tokens", "uniform"]


class GradientAligner:
    """Replaces the gradients of a LoRA model by the aligned ones, between backward and optimizer step.

    ::

        aligner = GradientAligner(model, method="iga")
        aligner.attach_optimizer(optimizer)  # a MaskedAdamW: it measures its step by the gradient before the mask
        for batch in loader:
            with aligner.record(batch["domain_ids"]):
                loss_of(model, batch).backward()
            aligner.step()
            optimizer.step()
            optimizer.zero_grad()

    Call `attach_optimizer` once for `MaskedAdamW`, and for any optimizer with ``mask_stage="update"`` (the default in
    factor space). A method that needs losses, a forward pass or paired sets (see `isodistill.methods.Needs`) gets
    them from `objective`, which computes the loss to back-propagate.

    In a distributed run the per-domain sums of all processes are added up first: all write the same gradient.

    Args:
        model: A PEFT model with one trainable LoRA adapter.
        method: A name in `isodistill.methods.METHODS`, or a `Method` object.
        penalty: A method that adds to the loss or weighs the domains, beside `method`; its part of the gradient goes
            through `method` as well.
        penalty_options: The penalty's own arguments.
        engine: ``tap`` (one backward for the whole batch) or ``loop`` (one `record` block for each domain).
        domain_weighting: w_d = domain d's share of the loss items (``tokens``: tau = 0 is plain training), or 1/K
            (``uniform``).
        accumulation_steps: How many `record` blocks make one optimizer step. With one, weight space streams: each
            layer's dense gradients are formed, aligned and freed inside the backward. With more, or in a distributed
            run, they are added up first, which is exact and holds K dense copies of every adapted weight.
        run: What is known of the run; methods that anneal or draw at random need it.
        **options: The method's own arguments (see the class of the method).

    Raises:
        IsodistillError: if the model cannot be aligned right (see `find_adapted_layers`), or an option is wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        method: str | Method = "iga",
        *,
        penalty: str | Method | None = None,
        penalty_options: dict[str, Any] | None = None,
        engine: str = "tap",
        domain_weighting: DomainWeighting = "tokens",
        accumulation_steps: int = 1,
        run: RunInfo | None = None,
        **options: Any,
    ) -> None:
        if domain_weighting not in ("tokens", "uniform"):
            raise IsodistillError(f"domain_weighting={domain_weighting!r} is unknown: choose 'tokens' or 'uniform'")
        self.method = build_method(method, **options)
        self.penalty = None if penalty is None else build_penalty(penalty, **(penalty_options or {}))
        self.parts = [self.method] if self.penalty is None else [self.method, self.penalty]
        """The method and, if there is one, the penalty."""
        self.accumulation_steps = accumulation_steps
        self.layers = find_adapted_layers(model)
        self._refuse(engine)
        for part in self.parts:
            part.bind(run or RunInfo())
        self.engine = None
        self._collector = WindowCollector(
            self.method, self.penalty, self.layers, uniform=domain_weighting == "uniform", streams=False
        )
        # Uniform weights are no plain mean over tokens, so they take per-domain gradients whatever the method.
        uniform = domain_weighting == "uniform" and not self.replays
        if uniform or any(part.needs.gradients != "none" for part in self.parts):
            self.engine = engine_class(engine)(self.layers, self._collector)
            # DDP waits for autograd's own gradients, and a penalty on the last layer is made of its factors.
            own = any(part.needs.last_layer for part in self.parts)
            self.engine.replaces_autograd = not own and num_processes() == 1
        else:
            engine_class(engine)
        self._hooks: list[Any] = []
        self._optimizer: Optimizer | None = None
        self._records = 0
        self._domain_ids: torch.Tensor | None = None
        self._last_layer = LastLayerTap(self.layers[-1]) if any(part.needs.last_layer for part in self.parts) else None

    def _refuse(self, engine: str) -> None:
        processes = num_processes()
        if self.penalty is not None and self.replays:
            raise IsodistillError(
                f"method={self.method.name!r} runs the step's data again and cannot be combined with"
                f" penalty={self.penalty.name!r}: leave the penalty out, or choose another method"
            )
        for part in self.parts:
            if part.needs.forward and engine == "loop":
                raise IsodistillError(
                    f"method={part.name!r} compares sequences of several domains in one forward pass: use engine='tap'"
                )
            if part.max_processes is not None and processes > part.max_processes:
                raise IsodistillError(
                    f"method={part.name!r} runs on {part.max_processes} process and there are {processes}: run one"
                )

    @contextmanager
    def record(
        self,
        domain_ids: torch.Tensor,
        num_items: torch.Tensor | None = None,
        normalizer: float | None = None,
        tokens: torch.Tensor | None = None,
    ) -> Iterator[None]:
        """Records the per-domain gradients of the forward and backward passes inside the block.

        Args:
            domain_ids: The domain of each sequence, (batch,), integers from 0.
            num_items: How many loss items each sequence brings, (batch,), for example its label tokens; ``None``
                means one each, for a loss that is a mean over sequences of equal weight.
            normalizer: What the loss's sum over items was divided by; ``None`` means the items of this block (a
                mean), which is right for a mean over the batch, and for each domain's own mean in the loop engine.
            tokens: Where the batch has tokens and not padding, (batch, length), as an attention mask has it. Weight
                space then spares the padding, which must bring no gradient; ``None`` means there is none.

        Yields:
            Nothing.

        Raises:
            IsodistillError: if the shapes do not fit, or if more blocks come than `accumulation_steps`. If the block
                itself raises, everything recorded since the last `step` is discarded.
        """
        if domain_ids.ndim != 1 or domain_ids.is_floating_point():
            raise IsodistillError(f"domain_ids must be integers of shape (batch,), not {tuple(domain_ids.shape)}")
        items = torch.ones_like(domain_ids) if num_items is None else num_items
        if items.shape != domain_ids.shape:
            raise IsodistillError(
                f"num_items has shape {tuple(items.shape)}, domain_ids {tuple(domain_ids.shape)}: give one for each"
            )
        splits = self.engine is None or self.engine.splits_batches
        blocks = self.accumulation_steps * (1 if splits else 10**9)
        if self._records >= blocks:
            raise IsodistillError(
                f"record was entered {self._records + 1} times before step: set accumulation_steps to the number of"
                " record blocks in one optimizer step"
            )
        self._records += 1
        counts: dict[int, float] = {}
        for domain, count in zip(domain_ids.tolist(), items.tolist(), strict=True):
            counts[domain] = counts.get(domain, 0.0) + count
        collector = self._collector
        for domain, count in counts.items():
            collector.items[domain] = collector.items.get(domain, 0.0) + count
        collector.scale = float(sum(counts.values()) if normalizer is None else normalizer)
        collector.streams = splits and self.accumulation_steps == 1 and num_processes() == 1
        self._domain_ids = domain_ids
        if self._last_layer is not None:
            self._last_layer.start()
        try:
            if self.engine is None:
                yield
            else:
                with self.engine.record(domain_ids, tokens):
                    yield
        except BaseException:
            # A block that failed half-way left part of its gradients: the caller may repeat the whole window.
            self._clear_window()
            raise
        finally:
            self._domain_ids = None
            if self._last_layer is not None:
                self._last_layer.clear()

    def objective(self, forward: Forward, normalizer: float | None = None, share: float | None = None) -> torch.Tensor:
        """Computes the loss to back-propagate inside a `record` block: the mean of -log p, and the penalties.

        Args:
            forward: The forward pass of the block's sequences.
            normalizer: What the sum over label tokens is divided by; ``None`` means their number.
            share: See `penalize`.

        Returns:
            A scalar.

        Raises:
            IsodistillError: outside of a `record` block.
        """
        total = -forward.log_probs.sum()
        loss = total / (len(forward.labels) if normalizer is None else normalizer)
        extra = self.penalize(forward, share)
        return loss if extra is None else loss + extra

    def penalize(self, forward: Forward, share: float | None = None) -> torch.Tensor | None:
        """Notes the domains' losses and computes what the methods add to the mean loss.

        Args:
            forward: The forward pass of the block's sequences.
            share: The block's share of the step's sequences; ``None`` means 1 / accumulation_steps.

        Returns:
            A scalar with a gradient, or ``None`` for nothing.

        Raises:
            IsodistillError: outside of a `record` block.
        """
        if self._domain_ids is None:
            raise IsodistillError("aligner.objective was called outside of `with aligner.record(domain_ids)`")
        if self._last_layer is not None:
            forward.last_layer = self._last_layer.read()
        sums = forward.sequence_sums(-forward.log_probs.detach()).tolist()
        losses = self._collector.losses
        for domain, value in zip(forward.domain_ids.tolist(), sums, strict=True):
            losses[domain] = losses.get(domain, 0.0) + value
        extra = None
        for part in self.parts:
            term = part.penalty(forward) if part.needs.forward else None
            if term is not None:
                extra = term if extra is None else extra + term
        return None if extra is None else extra * (1.0 / self.accumulation_steps if share is None else share)

    def augment(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Lets the methods change a micro-batch before the forward pass.

        Args:
            inputs: input_ids, attention_mask and labels, each (S, T).

        Returns:
            The inputs to use.
        """
        for part in self.parts:
            if part.needs.inputs:
                inputs = part.augment(inputs)
        return inputs

    @property
    def replays(self) -> bool:
        """Whether `step` needs a closure (see `isodistill.methods.Needs`)."""
        return self.method.needs.replay

    def step(self, closure: Callable[[int], None] | None = None) -> Diagnostics:
        """Writes the aligned gradients to ``.grad`` and closes the window of micro-batches.

        Args:
            closure: For a method that replays: runs forward and backward of domain d's mean loss over the step's
                data, at the parameters' present values.

        Returns:
            The step's diagnostics.

        Raises:
            IsodistillError: if nothing was recorded, or if the mask is for the optimizer's update and no optimizer
                was attached, or if a closure is missing.
        """
        if self.method.masks_update and not self._hooks:
            raise IsodistillError(
                "mask_stage='update' multiplies the optimizer's update: call aligner.attach_optimizer(optimizer) once"
                " before training, or set mask_stage='gradient'"
            )
        if self.engine is not None:
            gradients = self._collector.finish()
            if not gradients:
                raise IsodistillError(
                    "no per-domain gradient was recorded: run forward and backward inside"
                    " `with aligner.record(domain_ids)`"
                )
            self._write(gradients)
        elif self.replays:
            self._replay(closure)
        if any(part.resets_optimizer for part in self.parts):
            self._reset_optimizer()
        diagnostics = self._read_diagnostics()
        for part in self.parts:
            part.end_step()
        self._collector.step += 1
        self._clear_window()
        return diagnostics

    def _write(self, gradients: dict[str, torch.Tensor]) -> None:
        for layer in self.layers:
            for part in ("lora_A", "lora_B"):
                gradient = gradients.get(factor_name(layer, part))
                parameter = layer.factor(part)
                parameter.grad = None if gradient is None else gradient.to(parameter.dtype)
                if self.method.plain_gradients is not None:
                    setattr(parameter, PLAIN_GRADIENT, self.method.plain_gradients.pop(factor_name(layer, part), None))

    def _replay(self, closure: Callable[[int], None] | None) -> None:
        if closure is None:
            raise IsodistillError(
                f"method={self.method.name!r} runs the step's data again: pass aligner.step a closure that runs forward"
                " and backward of one domain's mean loss"
            )
        parameters = {
            factor_name(layer, part): layer.factor(part) for layer in self.layers for part in ("lora_A", "lora_B")
        }

        def gradient_of(domain: int) -> dict[str, torch.Tensor]:
            for parameter in parameters.values():
                parameter.grad = None
            with torch.enable_grad():
                closure(domain)
            found = {}
            for name, parameter in parameters.items():
                gradient = parameter.grad
                found[name] = torch.zeros_like(parameter) if gradient is None else as_float32(gradient)
                parameter.grad = None
            return found

        window = self._collector.open_window()
        if not window.domains:
            raise IsodistillError(
                "no domain was recorded: enter `with aligner.record(domain_ids, num_items)` before"
                " aligner.step(closure)"
            )
        gradients = self.method.replay(gradient_of, parameters, self._optimizer, window)
        self._write(gradients or {})

    def _reset_optimizer(self) -> None:
        if self._optimizer is not None:
            self._optimizer.state.clear()

    def _read_diagnostics(self) -> Diagnostics:
        diagnostics = self.method.diagnostics()
        if self.penalty is not None:
            diagnostics.values |= self.penalty.diagnostics().values
        items, losses = self._collector.items, self._collector.losses
        diagnostics.values |= {f"domain_loss/{d}": losses[d] / items[d] for d in sorted(losses) if items.get(d)}
        return diagnostics

    def attach_optimizer(self, optimizer: Optimizer) -> None:
        """Tells the optimizer to methods that mask its updates, step with it, or reset it; harmless for the others.

        With a `MaskedAdamW` the gradients before the mask are kept for it.

        The update that is masked is everything the optimizer does to a factor in one step, weight decay included.

        Args:
            optimizer: The torch optimizer that holds the LoRA factors.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._optimizer = optimizer
        self.method.plain_gradients = {} if isinstance(optimizer, MaskedAdamW) else None
        if not self.method.masks_update:
            return
        self._hooks = mask_updates(optimizer, self.layers, lambda: self._collector.masks)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns what must survive a checkpoint (running averages, warm subspaces, weights), as named tensors."""
        state = {"step": torch.tensor(self._collector.step)}
        for role, part in zip(("method", "penalty"), self.parts, strict=False):
            state |= {f"{role}/{key}": tensor for key, tensor in part.state_dict().items()}
        return state

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned.

        Raises:
            IsodistillError: if the state is not one of an aligner.
        """
        if "step" not in state:
            raise IsodistillError("the state holds no step count: it was not written by GradientAligner.state_dict")
        self._collector.step = int(state["step"])
        for role, part in zip(("method", "penalty"), self.parts, strict=False):
            prefix = f"{role}/"
            part.load_state_dict(
                {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
            )

    def close(self) -> None:
        """Removes every hook from the model and the optimizer."""
        if self.engine is not None:
            self.engine.close()
        if self._last_layer is not None:
            self._last_layer.close()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _clear_window(self) -> None:
        self._records = 0
        self._collector.clear()
