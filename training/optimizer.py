"""Muon (torch's own, since 2.9; Jordan et al. 2024) for matrices, AdamW for the rest: in equal time on the mini VAE, it
reached half the loss of AdamW alone. A convolution counts as the matrix [out, in x taps]."""

import torch
from torch import Tensor, nn

LEAST_MATRIX = 8  # rows and columns
MOMENTS = {"muon": ("momentum_buffer",), "adam": ("step", "exp_avg", "exp_avg_sq")}  # what each keeps of a parameter


class Optimizer:
    """Of the parameters of `module` that want gradients; one learning rate for all. Norms, biases and embeddings of few
    rows go to AdamW."""

    def __init__(self, module: nn.Module, rate: float, decay: float):
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        muon = hasattr(torch.optim, "Muon")
        self.matrices = [p for p in self.parameters if muon and p.ndim > 1 and min(p.flatten(1).shape) >= LEAST_MATRIX]
        chosen = {id(p) for p in self.matrices}
        self.views = [nn.Parameter(p.data.flatten(1)) for p in self.matrices]  # share their memory
        self.rest = [p for p in self.parameters if id(p) not in chosen]
        self.parts: dict[str, torch.optim.Optimizer] = {}
        if self.views:
            self.parts["muon"] = torch.optim.Muon(
                self.views, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
            )
        if self.rest:
            self.parts["adam"] = torch.optim.AdamW(
                self.rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, foreach=True
            )

    def step(self, rate: float) -> None:
        for view, matrix in zip(self.views, self.matrices):
            view.grad = None if matrix.grad is None else matrix.grad.flatten(1)
        for part in self.parts.values():
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def zero_grad(self) -> None:
        for parameter in (*self.parameters, *self.views):
            parameter.grad = None

    def moments(self) -> dict[str, Tensor]:
        """Everything it keeps between steps, under "part.parameter.name"."""
        return {
            f"{name}.{i}.{key}": value
            for name, part in self.parts.items()
            for i, values in part.state_dict()["state"].items()
            for key, value in values.items()
        }

    def moment_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of `moments` after a step in which all parameters had gradients."""
        parameters = {"muon": self.views, "adam": self.rest}
        return {
            f"{name}.{i}.{key}": () if key == "step" else tuple(parameter.shape)
            for name in self.parts
            for i, parameter in enumerate(parameters[name])
            for key in MOMENTS[name]
        }

    def load_moments(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from `moments`."""
        found: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in self.parts}
        for full, value in tensors.items():
            name, i, key = full.split(".")
            found[name].setdefault(int(i), {})[key] = value
        for name, part in self.parts.items():
            part.load_state_dict(part.state_dict() | {"state": found[name]})
