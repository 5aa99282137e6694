"""The multi-objective aggregators of TorchJD, as gradient methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from isodistill.errors import IsodistillError
from isodistill.gradients.buckets import buckets_of
from isodistill.methods.base import Choice, Diagnostics, Method, Needs, Range, RunInfo, Window


class Aggregation(Method):
    """Combines the domains' gradients with weights that depend on their Gramian.

    With the rows J_d = K w_d g_d, whose plain mean is the gradient of the mean loss::

        alpha = weighting(J Jᵀ)          gradient = c sum_d alpha_d J_d

    c is 1 for aggregators that return a mean, 1/K for those that return a sum and 1/(1 + radius) for CAGrad, so that on
    equal rows all of them give the plain gradient at the same learning rate. The K x K Gramian is added up bucket by
    bucket of factors.

    The weightings are TorchJD's own (``torchjd>=0.18,<0.19``), not rewritten. Random orders are drawn under a seed
    from run and step, so every process draws the same. A subclass names its weighting.
    """

    min_domains: ClassVar[int] = 2
    returns_sum: ClassVar[bool] = False
    scale_free: ClassVar[bool] = True
    """Whether the weights stay the same when all gradients are scaled."""

    def __init__(self) -> None:
        self._seed = 0
        self._weightings: dict[int, Any] = {}
        self._alpha: list[float] = []

    def rescale(self, num_domains: int) -> float:
        """Returns c, the factor that turns the aggregator's convention into a mean."""
        return 1.0 / num_domains if self.returns_sum else 1.0

    def make_weighting(self, num_domains: int) -> Any:
        """Makes TorchJD's weighting for K domains: a callable from a Gramian (K, K) to weights (K,).

        Raises:
            ImportError: if a library that the weighting needs is not installed.
        """
        raise NotImplementedError

    @property
    def needs(self) -> Needs:
        """Per-domain factor gradients."""
        return Needs(gradients="factor")

    def bind(self, run: RunInfo) -> None:
        """Learns the seed, and checks that the libraries are there."""
        self._seed = run.seed
        self._weights_for(run.num_domains or 2)

    def _weights_for(self, num_domains: int) -> Any:
        # Unpaired data bring now more, now fewer domains; a weighting with memory has one for each number.
        if num_domains not in self._weightings:
            try:
                self._weightings[num_domains] = self.make_weighting(num_domains)
            except ImportError as error:
                raise IsodistillError(
                    f"method={self.name!r} needs a library that is not installed ({error.name or error}): run"
                    " pip install 'isodistill[baselines]'"
                ) from None
        return self._weightings[num_domains]

    def align_factors(
        self, gradients: Mapping[str, torch.Tensor], window: Window
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Combines all factors with one set of weights (see `Method.align_factors`)."""
        count = len(window.domains)
        scales = torch.tensor([count * weight for weight in window.weights], dtype=torch.float64)
        buckets = buckets_of(gradients)
        # One transfer for all factors: the K x K problem is solved on the CPU.
        gramian = torch.stack([bucket.values @ bucket.values.T for bucket in buckets]).cpu().double().sum(0)
        gramian *= scales.unsqueeze(1) * scales
        alpha = self._solve(gramian, window.step)
        self._alpha = alpha.tolist()
        combined = alpha * scales
        aligned: dict[str, torch.Tensor] = {}
        for bucket in buckets:
            aligned |= bucket.views(combined.to(bucket.values) @ bucket.values)
        return aligned, {}

    def _solve(self, gramian: torch.Tensor, step: int) -> torch.Tensor:
        if not bool(gramian.isfinite().all()):
            raise IsodistillError(
                f"method={self.name!r} got gradients that are not finite at step {step}; lower the learning rate"
            )
        size = float(gramian.trace()) / len(gramian)
        if size == 0.0:
            return torch.zeros(len(gramian), dtype=torch.float64)
        # TorchJD's solvers take a small Gramian for zero; the weights do not depend on its scale.
        scaled = gramian / size if self.scale_free else gramian
        weighting = self._weights_for(len(gramian))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed * 1_000_003 + step)
            alpha = weighting(scaled).to(torch.float64)
        if not bool(alpha.isfinite().all()):
            raise IsodistillError(
                f"method={self.name!r} found no finite weights at step {step}; lower the learning rate"
            )
        return alpha * self.rescale(len(gramian))

    def diagnostics(self) -> Diagnostics:
        """Reports the smallest and the largest weight of a domain."""
        if not self._alpha:
            return Diagnostics()
        return Diagnostics(values={"alpha_min": min(self._alpha), "alpha_max": max(self._alpha)})


class PCGrad(Aggregation):
    """Projects each domain's gradient off those it conflicts with, in random order: Yu et al. (arXiv 2001.06782).

    TorchJD returns the sum of the projected gradients; it is divided by K here.
    """

    name: ClassVar[str] = "pcgrad"
    source: ClassVar[str] = "arXiv 2001.06782"
    returns_sum: ClassVar[bool] = True

    def make_weighting(self, num_domains: int) -> Any:
        """Makes TorchJD's PCGradWeighting."""
        from torchjd.aggregation import PCGradWeighting

        return PCGradWeighting()


class GradVac(Aggregation):
    """Turns gradients towards each other until their cosines reach a running target: Wang et al. (arXiv 2010.05874).

    TorchJD returns a sum, divided by K here; the targets phi are kept across steps and saved.

    Args:
        beta: How fast the targets move, in [0, 1].
    """

    name: ClassVar[str] = "gradvac"
    source: ClassVar[str] = "arXiv 2010.05874"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"beta": Range(0.01, 0.9, log=True)}
    """This project's; the paper's value is 0.01."""
    returns_sum: ClassVar[bool] = True

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= beta <= 1.0:
            raise IsodistillError(f"beta={beta} is out of range: give a number in [0, 1]")
        self.beta = beta

    def make_weighting(self, num_domains: int) -> Any:
        """Makes TorchJD's GradVacWeighting."""
        from torchjd.aggregation import GradVacWeighting

        return GradVacWeighting(beta=self.beta)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the targets."""
        return {f"phi/{count}": w._phi_t for count, w in self._weightings.items() if w._phi_t is not None}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores the targets."""
        self._weightings.clear()
        for key, phi in state.items():
            weighting = self._weights_for(int(key.removeprefix("phi/")))
            weighting._phi_t, weighting._state_key = phi.clone(), (len(phi), phi.dtype)


class CAGrad(Aggregation):
    """Stays within c ||gbar|| of the mean gradient and helps the worst domain most: Liu et al. (arXiv 2110.14048).

    TorchJD returns gbar plus a step of length c ||gbar||, so (1 + c) gbar on equal rows; it is divided by 1 + c here.

    Args:
        c: The radius, not negative; 0 is the plain mean.
    """

    name: ClassVar[str] = "cagrad"
    source: ClassVar[str] = "arXiv 2110.14048"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"c": Range(0.1, 0.9)}
    """The paper's."""

    def __init__(self, c: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= c < float("inf"):
            raise IsodistillError(f"c={c} is out of range: give a finite number, 0 or greater")
        self.c = c

    def rescale(self, num_domains: int) -> float:
        """Returns 1 / (1 + c)."""
        return 1.0 / (1.0 + self.c)

    def make_weighting(self, num_domains: int) -> Any:
        """Makes TorchJD's CAGradWeighting."""
        from torchjd.aggregation import CAGradWeighting

        return CAGradWeighting(c=self.c)


class MGDA(Aggregation):
    """Takes the shortest convex combination of the gradients: Désidéri (2012), by Frank-Wolfe.

    Args:
        max_iters: The most iterations of the solver.
    """

    name: ClassVar[str] = "mgda"
    source: ClassVar[str] = "Désidéri 2012"

    def __init__(self, max_iters: int = 100) -> None:
        super().__init__()
        if max_iters < 1:
            raise IsodistillError(f"max_iters={max_iters} is out of range: give 1 or more")
        self.max_iters = max_iters

    def make_weighting(self, num_domains: int) -> Any:
        """Makes TorchJD's MGDAWeighting."""
        from torchjd.aggregation import MGDAWeighting

        return MGDAWeighting(max_iters=self.max_iters)


class UPGrad(Aggregation):
    """Projects each gradient onto the dual cone of all and averages: Quinton & Rey (arXiv 2406.16232)."""

    name: ClassVar[str] = "upgrad"
    source: ClassVar[str] = "arXiv 2406.16232"

    def make_weighting(self, num_domains: int) -> Any:
        """Makes TorchJD's UPGradWeighting."""
        from torchjd.aggregation import UPGradWeighting

        return UPGradWeighting()


class IMTLG(Aggregation):
    """Finds the combination with equal projections on all unit gradients: Liu et al. (ICLR 2021)."""

    name: ClassVar[str] = "imtl_g"
    source: ClassVar[str] = "Liu et al., ICLR 2021"

    def make_weighting(self, num_domains: int) -> Any:
        """Makes TorchJD's IMTLGWeighting."""
        from torchjd.aggregation import IMTLGWeighting

        return IMTLGWeighting()


class AlignedMTL(Aggregation):
    """Aligns the principal components of the gradient matrix: Senushkin et al. (CVPR 2023).

    Args:
        scale_mode: The scale of the aligned components: ``min``, ``median`` or ``rmse``.
    """

    name: ClassVar[str] = "aligned_mtl"
    source: ClassVar[str] = "Senushkin et al., CVPR 2023"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"scale_mode": Choice(("min", "median", "rmse"))}
    """The scales that the authors' code has."""

    def __init__(self, scale_mode: str = "min") -> None:
        super().__init__()
        if scale_mode not in ("min", "median", "rmse"):
            raise IsodistillError(f"scale_mode={scale_mode!r} is unknown: choose 'min', 'median' or 'rmse'")
        self.scale_mode = scale_mode

    def make_weighting(self, num_domains: int) -> Any:
        """Makes TorchJD's AlignedMTLWeighting."""
        from torchjd.aggregation import AlignedMTLWeighting

        return AlignedMTLWeighting(scale_mode=self.scale_mode)  # type: ignore[arg-type]


class NashMTL(Aggregation):
    """Finds the Nash bargaining solution between the domains: Navon et al. (arXiv 2202.01017).

    The combined gradient's norm is clipped to max_norm, which has no counterpart in the other methods: its length
    does not follow the loss. The last solution starts the next search, and is saved.

    Args:
        max_norm: The largest norm; 0 for none.
        update_weights_every: Steps between two searches.
        optim_niter: The most iterations of one search.
    """

    name: ClassVar[str] = "nash_mtl"
    source: ClassVar[str] = "arXiv 2202.01017"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"max_norm": Choice((0.0, 0.3, 1.0, 3.0))}
    """This project's, around the authors' 1."""
    scale_free: ClassVar[bool] = False

    def __init__(self, max_norm: float = 1.0, update_weights_every: int = 1, optim_niter: int = 20) -> None:
        super().__init__()
        if not 0.0 <= max_norm < float("inf"):
            raise IsodistillError(f"max_norm={max_norm} is out of range: give a finite number, 0 or greater")
        if update_weights_every < 1:
            raise IsodistillError(f"update_weights_every={update_weights_every} is out of range: give 1 or more")
        if optim_niter < 1:
            raise IsodistillError(f"optim_niter={optim_niter} is out of range: give 1 or more")
        self.max_norm = max_norm
        self.update_weights_every = update_weights_every
        self.optim_niter = optim_niter

    def make_weighting(self, num_domains: int) -> Any:
        """Makes TorchJD's Nash-MTL weighting on a square root of the Gramian."""
        from torchjd.aggregation import NashMTL as TorchJDNashMTL

        inner: Any = TorchJDNashMTL(num_domains, self.max_norm, self.update_weights_every, self.optim_niter).weighting
        return _OnGramian(inner)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the last solution and the step."""
        state = {}
        for count, weighting in self._weightings.items():
            state[f"alpha/{count}"] = torch.tensor(weighting.inner.prvs_alpha, dtype=torch.float64)
            state[f"step/{count}"] = torch.tensor(weighting.inner.step, dtype=torch.float64)
        return state

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""
        self._weightings.clear()
        for key, alpha in state.items():
            if key.startswith("alpha/"):
                inner = self._weights_for(len(alpha)).inner
                inner.prvs_alpha = alpha.numpy().copy()
                inner._init_optim_problem()
                inner.step = float(state[f"step/{len(alpha)}"])


class _OnGramian:
    """Feeds a weighting that wants a matrix J with a small one of the same Gramian."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, gramian: torch.Tensor) -> torch.Tensor:
        values, vectors = torch.linalg.eigh(gramian)
        root = vectors * values.clamp_min(0.0).sqrt()  # root rootᵀ = gramian
        return self.inner(root)


AGGREGATIONS: tuple[type[Aggregation], ...] = (PCGrad, CAGrad, MGDA, UPGrad, IMTLG, AlignedMTL, GradVac, NashMTL)
"""Every TorchJD method of this module."""
