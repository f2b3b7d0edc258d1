"""AdamW for the three precisions: rates that transfer over width and depth, bfloat16 weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from patchscale.model.patchtst import PatchTST, random_16_bits

CHUNK = 2**24
"""Elements converted to float32 at a time: 64 MB a buffer."""
BASE_WIDTH = 64
"""Inputs of a matrix that is trained with the rate as it is."""
BETAS = (0.9, 0.95)
EPS = 1e-8


def make_optimizer(model: PatchTST, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW with a rate for every matrix after CompleteP.

    A matrix of n inputs is trained with `lr` * 64 / n and decayed in proportion to `lr`; biases,
    norms and positions are trained with `lr` and not decayed. Adam's epsilon falls with width and
    depth, as gradients do. Models with bfloat16 weights get `RoundedAdamW`, others torch's fused
    AdamW. The moments are allocated at once: allocated in the first step they would fragment its
    activations.

    References
    ----------
    Dey et al. (2025), "Don't be lazy", arXiv 2505.01618, table 1.
    """
    by_inputs: dict[int, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and name != "positions"
        by_inputs.setdefault(parameter.shape[1] if is_matrix else 0, []).append(parameter)
    groups: list[dict[str, Any]] = []
    for inputs, parameters in by_inputs.items():
        share = BASE_WIDTH / inputs if inputs else 1.0
        decay = weight_decay / share if inputs else 0.0
        groups.append(
            {"params": parameters, "lr": lr * share, "share": share, "weight_decay": decay}
        )
    shape = model.config
    eps = EPS * BASE_WIDTH / shape.d_model / shape.n_layers
    if any(parameter.dtype == torch.bfloat16 for parameter in model.parameters()):
        return RoundedAdamW(groups, lr, eps)
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=BETAS, eps=eps, fused=True)
    allocate_moments(optimizer)
    return optimizer


def allocate_moments(optimizer: torch.optim.Optimizer) -> None:
    """Set step and both moments of every parameter to zero."""
    for parameter in (each for group in optimizer.param_groups for each in group["params"]):
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }


class RoundedAdamW(torch.optim.Optimizer):
    """AdamW with weights and moments in bfloat16: 8 bytes a weight with its gradient.

    Each step computes in float32, chunk by chunk. Weights are rounded stochastically: updates
    smaller than half a bfloat16 step would be lost by rounding to the nearest value; here they are
    kept on average. Moments are rounded to the nearest value: they forget 5 or 10 % a step, ten
    times what a bfloat16 can tell apart. Parameters in float32 (norms, positions) have moments in
    float32.

    References
    ----------
    Zamirai et al. (2021), "Revisiting BFloat16 Training"; Loshchilov and Hutter (2019),
    "Decoupled Weight Decay Regularization".
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, eps: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": BETAS, "eps": eps})
        allocate_moments(self)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                stored = (parameter, state["exp_avg"], state["exp_avg_sq"])
                local = (local_shard(tensor) for tensor in (*stored, parameter.grad))
                chunks = zip(*(torch.split(part.view(-1), CHUNK) for part in local), strict=True)
                state["step"] += 1
                for *chunk, gradient in chunks:
                    self._update(chunk, gradient, state["step"], group)

    @staticmethod
    def _update(chunk: list[Tensor], gradient: Tensor, step: Tensor, group: dict[str, Any]) -> None:
        wide = [tensor.float() for tensor in chunk]
        torch._fused_adamw_(
            wide[:1],
            [gradient.float()],
            wide[1:2],
            wide[2:],
            [],
            [step],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
        if chunk[0].dtype == torch.bfloat16:
            chunk[0].copy_(round_stochastically(wide[0]))
            chunk[1].copy_(wide[1])
            chunk[2].copy_(wide[2])


def local_shard(tensor: Tensor) -> Tensor:
    """Return the shard of a tensor that this process holds; an unsharded tensor is its own."""
    shard: Callable[[], Tensor] | None = getattr(tensor, "to_local", None)
    return tensor if shard is None else shard()


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a whole tensor; every process must call this for a sharded one."""
    gather: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def round_stochastically(exact: Tensor) -> Tensor:
    """Round float32 to one of its two bfloat16 neighbours, to the nearer one more often.

    The mean of many roundings is the exact value. NaN stays NaN. Overwrites `exact`.
    """
    draws = random_16_bits(exact.shape, exact.device).to(torch.int32).add_(2**15)
    draws.masked_fill_(exact.isnan(), 0)  # CUDA's NaN has all bits set: one more gives -0
    return exact.view(torch.int32).add_(draws).bitwise_and_(-(2**16)).view(torch.float32).bfloat16()
