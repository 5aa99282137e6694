"""What a method cannot do on given data and options, said before the training starts."""

from __future__ import annotations

from collections.abc import Sequence

from isodistill.errors import IsodistillError
from isodistill.methods import Method
from isodistill.trainer.config import IsomerConfig


def refuse_method(method: Method, args: IsomerConfig, domains: Sequence[str], paired: bool) -> None:
    """Refuses, by name, what a method cannot do on these data and options.

    Args:
        method: The gradient method, or a penalty.
        args: The configuration.
        domains: The names of the data's domains.
        paired: Whether the data are isomer sets.

    Raises:
        IsodistillError: if something does not fit; the message names the mend.
    """
    name = f"method={method.name!r}"
    if len(domains) < method.min_domains:
        raise IsodistillError(
            f"{name} compares domains and the data has only {domains[0]!r}: generate at least"
            " two domains, or use method='erm'"
        )
    if method.needs.sets and not paired:
        raise IsodistillError(f"{name} compares the members of a set and the data has no set_id: give isomer sets")
    if paired and args.per_device_train_batch_size < method.needs.sequences:
        raise IsodistillError(
            f"{name} needs {method.needs.sequences} sequences of each domain in a micro-batch: set"
            f" per_device_train_batch_size to {method.needs.sequences} or more"
        )
    if args.bf16 and not method.reduced_precision:
        raise IsodistillError(f"{name} takes differences that drown in bf16's round-off: set bf16=False")
    if args.loss_type != "nll" and (method.needs.losses or method.needs.forward):
        raise IsodistillError(f"{name} is defined on the mean negative log-likelihood: set loss_type='nll'")
    if args.shuffle_domains and args.penalty is None and not method.uses_domains:
        raise IsodistillError(f"shuffle_domains=True changes nothing for {name}, which reads no domain label")
