"""Layers of spiking neurons as modules, with snnTorch's argument names where they mean the same.

`snn_anml.neurons.equation` states the equations. Parameters are given as a number, or as a tensor that broadcasts to
one sample: (C, 1, 1) is one a channel, (C, H, W) one a neuron. `learn_...` makes them `nn.Parameter`s; decays are
clamped to [0, 1] as they are used, as snnTorch does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from snn_anml.errors import UserError
from snn_anml.neurons.equation import RESETS, LIFParameters, Reset, State
from snn_anml.neurons.lif import lif
from snn_anml.neurons.surrogate import Surrogate


def _shown(value: float | Tensor) -> str:
    """A number, or the shape of several."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape) if value.dim() else value.item())
    return str(value)


def _all(value: float | Tensor, true: Callable[[Any], Any]) -> bool:
    """Whether it is true of a number, or of all of a tensor; one without memory passes."""
    if isinstance(value, Tensor):
        return value.is_meta or bool(true(value).all())
    return bool(true(value))


class _Layer(nn.Module):
    """A module whose parameters are numbers, buffers or learned."""

    def _set(self, name: str, value: float | Tensor, learn: bool) -> None:
        """Keeps a number as it is, a tensor as a buffer, and what is learned as a parameter."""
        if learn:
            floats = isinstance(value, Tensor) and value.is_floating_point()
            kind = cast(Tensor, value).dtype if floats else torch.get_default_dtype()
            setattr(self, name, nn.Parameter(torch.as_tensor(value, dtype=kind).detach().clone()))
        elif isinstance(value, Tensor):
            self.register_buffer(name, value.detach().clone())
        else:
            setattr(self, name, float(value))

    def _set_decay(self, name: str, value: float | Tensor, learn: bool) -> None:
        if not _all(value, lambda value: value >= 0) or not _all(value, lambda value: value <= 1):
            raise UserError(f"{name} is {value}; a decay lies in [0, 1].")
        self._set(name, value, learn)

    def _decay(self, name: str) -> Any:
        value = getattr(self, name, None)
        return value.clamp(0, 1) if isinstance(value, Tensor) else value


class Leaky(_Layer):
    """A layer of LIF neurons, run over all steps in one call.

    Args:
        beta: decay of the membrane a step, in [0, 1].
        threshold: membrane above which a neuron spikes; positive.
        reset_mechanism: `subtract`, `zero` or `none`.
        reset_delay: True: the reset follows one step after the spike; False: in the same step.
        surrogate: name of a `Surrogate`, or one.
        slope: slope of the surrogate, where it is given by name.
        learn_beta, learn_threshold: make them parameters.
        detach_reset: whether the reset carries no gradient. None: as in snnTorch, if it is delayed.

    Raises:
        UserError: a value outside its range.
    """

    def __init__(
        self,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        reset_mechanism: Reset = "subtract",
        reset_delay: bool = True,
        surrogate: str | Surrogate = "fast_sigmoid",
        slope: float = 5.0,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        detach_reset: bool | None = None,
    ) -> None:
        super().__init__()
        if reset_mechanism not in RESETS:
            raise UserError(f"Unknown reset {reset_mechanism!r}; known are {', '.join(RESETS)}.")
        if not _all(threshold, lambda value: value > 0):
            raise UserError(f"threshold is {threshold}; it must be positive.")
        self._set_decay("beta", beta, learn_beta)
        self._set("threshold", threshold, learn_threshold)
        self.reset_mechanism: Reset = reset_mechanism
        self.reset_delay = reset_delay
        self.detach_reset = reset_delay if detach_reset is None else detach_reset
        self.surrogate = Surrogate(surrogate, slope) if isinstance(surrogate, str) else surrogate

    @property
    def parameters_of_neuron(self) -> LIFParameters:
        """The layer's parameters as `lif` takes them."""
        return LIFParameters(
            self._decay("beta"),
            cast(Any, self.threshold),
            self.reset_mechanism,
            self.surrogate,
            self.reset_delay,
            self.detach_reset,
            self._decay("alpha"),
            self._decay("rho"),
            getattr(self, "adaptation", None),
        )

    def forward(
        self, currents: Tensor, steps: int | None = None, gate: Tensor | None = None, membrane: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Runs the layer.

        Args:
            currents: (T, B, ...), or (1, B, ...) with `steps`: the same current at every step.
            steps: T, where the current is the same at every step.
            gate: what multiplies the currents, (T or 1, B or 1, ...), each further size that of the currents or 1.
            membrane: before the first step, (B, ...); None is 0.

        Returns:
            spikes (0 or 1) and membrane, both (T, B, ...).
        """
        spikes, state = lif(currents, self.parameters_of_neuron, steps, gate, State(membrane))
        assert state.membrane is not None
        return spikes, state.membrane

    def extra_repr(self) -> str:
        p = self.parameters_of_neuron
        values = {name: getattr(p, name) for name in ("alpha", "beta", "threshold", "rho", "adaptation")}
        numbers = ", ".join(f"{name}={_shown(value)}" for name, value in values.items() if value is not None)
        options = f"reset_delay={p.reset_delay}, detach_reset={p.detach_reset}"
        return f"{numbers}, reset={p.reset}, {options}, {p.surrogate.name}({p.surrogate.slope})"


class Synaptic(Leaky):
    """LIF neurons whose current is a leaky sum of their input: i_t = alpha i_{t-1} + x_t.

    Args:
        alpha: decay of the synaptic current a step, in [0, 1].
        learn_alpha: makes it a parameter.
        others: as for `Leaky`.

    Raises:
        UserError: a value outside its range.
    """

    def __init__(
        self,
        alpha: float | Tensor = 0.8,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        reset_mechanism: Reset = "subtract",
        reset_delay: bool = True,
        surrogate: str | Surrogate = "fast_sigmoid",
        slope: float = 5.0,
        learn_alpha: bool = False,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        detach_reset: bool | None = None,
    ) -> None:
        super().__init__(
            beta, threshold, reset_mechanism, reset_delay, surrogate, slope, learn_beta, learn_threshold, detach_reset
        )
        self._set_decay("alpha", alpha, learn_alpha)

    def forward(
        self,
        currents: Tensor,
        steps: int | None = None,
        gate: Tensor | None = None,
        current: Tensor | None = None,
        membrane: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Runs the layer from a synaptic current and membrane, (B, ...) or None for 0; otherwise as `Leaky`.

        Returns:
            spikes, synaptic current and membrane, each (T, B, ...), in snnTorch's order.
        """
        spikes, state = lif(currents, self.parameters_of_neuron, steps, gate, State(membrane, current))
        assert state.membrane is not None
        assert state.current is not None
        return spikes, state.current, state.membrane


class AdaptiveLeaky(Leaky):
    """LIF neurons whose threshold rises with each spike and decays: threshold + adaptation a, a_t the leaky mean
    of past spikes with decay rho (LSNN, Bellec et al. 2018, where adaptation is beta and 1.8 by default).

    Args:
        rho: decay of the adaptation a step, in [0, 1]; exp(-1 / tau) for a time constant of tau steps.
        adaptation: rise of the threshold for a neuron that spikes at every step.
        learn_rho, learn_adaptation: make them parameters.
        others: as for `Leaky`.

    Raises:
        UserError: a value outside its range.
    """

    def __init__(
        self,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        rho: float | Tensor = 0.97,
        adaptation: float | Tensor = 1.8,
        reset_mechanism: Reset = "subtract",
        reset_delay: bool = True,
        surrogate: str | Surrogate = "fast_sigmoid",
        slope: float = 5.0,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        learn_rho: bool = False,
        learn_adaptation: bool = False,
        detach_reset: bool | None = None,
    ) -> None:
        super().__init__(
            beta, threshold, reset_mechanism, reset_delay, surrogate, slope, learn_beta, learn_threshold, detach_reset
        )
        self._set_decay("rho", rho, learn_rho)
        self._set("adaptation", adaptation, learn_adaptation)

    def forward(
        self,
        currents: Tensor,
        steps: int | None = None,
        gate: Tensor | None = None,
        membrane: Tensor | None = None,
        adaptation: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Runs the layer from a membrane and an adaptation, (B, ...) or None for 0; otherwise as `Leaky`.

        Returns:
            spikes, membrane and adaptation, each (T, B, ...).
        """
        spikes, state = lif(currents, self.parameters_of_neuron, steps, gate, State(membrane, None, adaptation))
        assert state.membrane is not None
        assert state.adaptation is not None
        return spikes, state.membrane, state.adaptation
