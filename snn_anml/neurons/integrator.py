"""Leaky integrator, a neuron that does not spike: v_t = beta v_{t-1} + x_t. The usual read-out."""

from __future__ import annotations

from torch import Tensor

from snn_anml.neurons.equation import LIFParameters, State
from snn_anml.neurons.leaky import _Layer, _shown
from snn_anml.neurons.lif import lif
from snn_anml.neurons.surrogate import Surrogate

# No spike acts on anything, so that any surrogate will do; this one costs least.
_SURROGATE = Surrogate("straight_through")


def integrate(
    currents: Tensor, beta: float | Tensor, steps: int | None = None, membrane: Tensor | None = None
) -> Tensor:
    """Membrane of a leaky integrator: v_t = beta v_{t-1} + x_t, the equation of `lif` without spikes and reset.

    Args:
        currents: (T, B, ...), or (1, B, ...) together with `steps`: the same current at every step.
        beta: decay of the membrane a step, dimensionless; a tensor broadcasts to (B, ...) and gets gradients:
            (C, 1, 1) is one a channel, (C, H, W) one a neuron.
        steps: T, where the current is the same at every step.
        membrane: before the first step, broadcasts to (B, ...); None is 0.

    Returns:
        v (T, B, ...), of the currents' type; float32 for currents in bfloat16 or float16.

    Raises:
        UserError: currents of more than one step that are not `steps` steps, or a beta or membrane that does not fit.
    """
    p = LIFParameters(beta, reset="none", surrogate=_SURROGATE)
    _, state = lif(currents, p, steps, state=State(membrane))
    assert state.membrane is not None
    return state.membrane


class LeakyIntegrator(_Layer):
    """A read-out of leaky integrators, `integrate` as a module.

    Args:
        beta: decay of the membrane a step, in [0, 1]; a tensor broadcasts to one sample.
        learn_beta: makes it a parameter, clamped to [0, 1] as it is used.

    Raises:
        UserError: a decay outside [0, 1].
    """

    def __init__(self, beta: float | Tensor = 0.9, learn_beta: bool = False) -> None:
        super().__init__()
        self._set_decay("beta", beta, learn_beta)

    def extra_repr(self) -> str:
        return f"beta={_shown(self._decay('beta'))}"

    def forward(self, currents: Tensor, steps: int | None = None, membrane: Tensor | None = None) -> Tensor:
        """Runs the layer.

        Args:
            currents: (T, B, ...), or (1, B, ...) with `steps`: the same current at every step.
            steps: T, where the current is the same at every step.
            membrane: before the first step, (B, ...); None is 0.

        Returns:
            membrane (T, B, ...).
        """
        return integrate(currents, self._decay("beta"), steps, membrane)
