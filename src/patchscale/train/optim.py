"""AdamW for the three precisions, and the rounding that lets weights live in bfloat16."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 2**24
"""Elements that are brought to float32 at a time: 64 MB a buffer."""


def make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW with weight decay on matrices only, not on biases, norms and positions.

    Models with bfloat16 weights get `RoundedAdamW`, others torch's fused AdamW.
    """
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        decayed = parameter.ndim >= 2 and name != "positions"
        (matrices if decayed else others).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if any(parameter.dtype == torch.bfloat16 for parameter in model.parameters()):
        return RoundedAdamW(groups, lr)
    return torch.optim.AdamW(groups, lr=lr, fused=True)


class RoundedAdamW(torch.optim.Optimizer):
    """AdamW whose weights and moments are stored in bfloat16, 8 bytes a weight with its gradient.

    Each step computes in float32, piece by piece, and rounds stochastically: an update of less
    than half a bfloat16 step, lost by rounding to the nearest, is kept on average. Parameters in
    float32 (norms, positions) have moments in float32.

    References
    ----------
    Zamirai et al. (2021), "Revisiting BFloat16 Training"; Loshchilov and Hutter (2019),
    "Decoupled Weight Decay Regularization".
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8})
        # at once: made in the first step, they would lie among the holes of its activations
        for parameter in (each for group in self.param_groups for each in group["params"]):
            self.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                stored = (parameter, state["exp_avg"], state["exp_avg_sq"])
                parts = (held(tensor) for tensor in (*stored, parameter.grad))
                pieces = zip(*(torch.split(part.view(-1), CHUNK) for part in parts), strict=True)
                state["step"] += 1
                for *piece, gradient in pieces:
                    self._update(piece, gradient, state["step"], group)

    @staticmethod
    def _update(piece: list[Tensor], gradient: Tensor, step: Tensor, group: dict[str, Any]) -> None:
        wide = [tensor.float() for tensor in piece]
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
        for narrow, exact in zip(piece, wide, strict=True):
            if narrow.dtype == torch.bfloat16:
                narrow.copy_(round_stochastically(exact))


def held(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor: its part of a sharded one, else all of it."""
    part: Callable[[], Tensor] | None = getattr(tensor, "to_local", None)
    return tensor if part is None else part()


def round_stochastically(exact: Tensor) -> Tensor:
    """Round float32 to one of its two bfloat16 neighbours, to the nearer one more often.

    The mean of many roundings is the exact value; NaN stays NaN. Overwrites `exact`.
    """
    draws = torch.randint(0, 2**16, exact.shape, dtype=torch.int32, device=exact.device)
    draws.masked_fill_(exact.isnan(), 0)  # CUDA's NaN has all bits set: one more gives -0
    return exact.view(torch.int32).add_(draws).bitwise_and_(-(2**16)).view(torch.float32).bfloat16()
