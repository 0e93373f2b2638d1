"""The LIF layer as a module, with snnTorch's argument names where they mean the same."""

from __future__ import annotations

from torch import Tensor, nn

from snn_anml.errors import UserError
from snn_anml.neurons.lif import RESETS, LIFParameters, Reset, lif, lif_eager
from snn_anml.neurons.surrogate import Surrogate


class Leaky(nn.Module):
    """A layer of LIF neurons (`snn_anml.neurons.lif` states the equations), run over all steps in one call.

    Args:
        beta: decay of the membrane a step, in [0, 1].
        threshold: membrane above which a neuron spikes; positive.
        reset_mechanism: `subtract`, `zero` or `none`.
        reset_delay: True: the reset follows one step after the spike; False: in the same step.
        surrogate: name of a `Surrogate`, or one.
        slope: slope of the surrogate, where it is given by name.

    Raises:
        UserError: a value outside its range.
    """

    def __init__(
        self,
        beta: float = 0.9,
        threshold: float = 1.0,
        reset_mechanism: Reset = "subtract",
        reset_delay: bool = True,
        surrogate: str | Surrogate = "fast_sigmoid",
        slope: float = 5.0,
    ) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise UserError(f"beta is {beta}; the decay of a membrane lies in [0, 1].")
        if not threshold > 0:
            raise UserError(f"threshold is {threshold}; it must be positive.")
        if reset_mechanism not in RESETS:
            raise UserError(f"Unknown reset {reset_mechanism!r}; known are {', '.join(RESETS)}.")
        if isinstance(surrogate, str):
            surrogate = Surrogate(surrogate, slope)
        self.parameters_of_neuron = LIFParameters(beta, threshold, reset_mechanism, surrogate)
        self.reset_delay = reset_delay

    def forward(self, currents: Tensor, steps: int | None = None, gate: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Runs the layer from a membrane of 0.

        Args:
            currents: (T, B, ...), or (1, B, ...) with `steps`: the same current at every step.
            steps: T, where the current is the same at every step.
            gate: what multiplies the currents, (T or 1, B or 1, ...), each further size that of the currents or 1.

        Returns:
            spikes (0 or 1) and membrane, both (T, B, ...).
        """
        if self.reset_delay:
            return lif(currents, self.parameters_of_neuron, steps, gate)
        currents = currents if gate is None else currents * gate
        steps = len(currents) if steps is None else steps
        return lif_eager(currents.expand(steps, *currents.shape[1:]), self.parameters_of_neuron, reset_delay=False)

    def extra_repr(self) -> str:
        p = self.parameters_of_neuron
        return f"beta={p.beta}, threshold={p.threshold}, reset={p.reset}, {p.surrogate.name}({p.surrogate.slope})"
