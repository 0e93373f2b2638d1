"""snnTorch's neurons as layers of this package: the same spikes, states and gradients, all steps in one call."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from snn_anml.errors import UserError
from snn_anml.neurons.equation import RESETS
from snn_anml.neurons.leaky import Leaky, Synaptic
from snn_anml.neurons.surrogate import SURROGATES, Surrogate

_RESET_OF = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}
# Symmetric about 0, from far within to far outside any sensible width of a surrogate.
_POSITIVE = torch.logspace(-4, 1, 51, dtype=torch.float64)
_GRID = torch.cat([-_POSITIVE.flip(0), _POSITIVE.new_zeros(1), _POSITIVE])
_TINY = 1e-100  # below it, a derivative that overflowed on the way counts as 0


def from_snntorch(module: nn.Module) -> Leaky | Synaptic:
    """Turns a `snntorch.Leaky` or `snntorch.Synaptic` into the layer here with copies of its parameters.

    Spikes and states are snnTorch's bit for bit in float32 and float64, first-order gradients to rounding. What is
    called differently: the layer takes all steps at once, (T, B, ...), and returns spikes and states whatever
    `init_hidden` and `output` say; it keeps no state between calls, and starts at 0 unless it is given one.
    A `Synaptic` with reset to zero must not be started above its threshold to agree. Unlike snnTorch's, half
    precision currents make a float32 membrane, and the sigmoid surrogate does not overflow.

    Args:
        module: the neuron; it is not changed. Parameters of no dimension that are not learned become numbers,
            others keep shape, type and device; learned ones stay learned.

    Returns:
        The layer, in the same mode (training or evaluation).

    Raises:
        UserError: another class of module, or an option that has no equal here; the sentence says which.
    """
    # Not imported here: a module of snnTorch can only come from where it is imported already.
    library: Any = sys.modules.get("snntorch")
    kinds = {} if library is None else {library.Leaky: Leaky, library.Synaptic: Synaptic}
    kind = kinds.get(type(module))
    if kind is None:
        cls = type(module)
        raise UserError(
            f"from_snntorch knows snntorch.Leaky and snntorch.Synaptic, not {cls.__module__}.{cls.__qualname__}; "
            "hand in neurons of these two classes, one by one."
        )
    _check_options(module)
    reset = reset_of(module)
    if kind is Synaptic and reset == "zero" and module.reset_delay:
        _refuse(
            module,
            "reset_mechanism='zero' with reset_delay=True, which in snnTorch throws away the input current of the "
            "step after a spike, too; build it with reset_delay=False or reset_mechanism='subtract'",
        )
    decays = ("alpha", "beta") if kind is Synaptic else ("beta",)
    tensors = {name: _tensor(module, name) for name in (*decays, "threshold")}
    learned = {name: value for name, value in tensors.items() if isinstance(value, nn.Parameter)}
    options: dict[str, Any] = {f"learn_{name}": name in learned for name in tensors}
    for name, value in tensors.items():
        value = value.detach().clamp(0, 1) if name in decays else value.detach()
        options[name] = value if value.dim() or name in learned else float(value)
    surrogate = _surrogate(module)
    layer = kind(reset_mechanism=reset, reset_delay=bool(module.reset_delay), surrogate=surrogate, **options)
    for name, value in learned.items():  # as they are: not clamped, and of their own type
        setattr(layer, name, nn.Parameter(value.detach().clone(), value.requires_grad))
    return layer.train(module.training)


def _refuse(module: nn.Module, what: str) -> NoReturn:
    raise UserError(f"Cannot take over this snntorch.{type(module).__name__}: it has {what}.")


def _check_options(module: Any) -> None:
    """Refuses what changes the equation into one that is not here."""
    if module.inhibition:
        _refuse(module, f"inhibition={module.inhibition}, which has no equal here; build it with inhibition=False")
    if module.state_quant:
        _refuse(module, f"state_quant={module.state_quant}, which has no equal here; build it without")
    factor = module.graded_spikes_factor
    if isinstance(factor, nn.Parameter) or not bool((factor == 1).all()):
        said = f"{'a learned ' if isinstance(factor, nn.Parameter) else ''}graded_spikes_factor={factor.tolist()}"
        _refuse(module, f"{said}; build it with 1 and multiply the spikes of the layer instead")
    if module.surrogate_disable:
        _refuse(module, "surrogate_disable=True, so that no gradient passes; build it with a spike_grad")


def reset_of(module: Any) -> Any:
    """The reset of a neuron of snnTorch, which keeps it in three places, of which assignment and load_state_dict
    change some.

    Raises:
        UserError: they disagree.
    """
    stepped = _RESET_OF.get(module.state_function.__name__)
    said = {module.reset_mechanism, RESETS[int(module.reset_mechanism_val)]}
    if said != {stepped}:
        others = " and ".join(sorted(repr(one) for one in said - {stepped}))
        _refuse(
            module,
            f"reset {stepped!r} from its construction but {others} since, which snnTorch heeds in part only; build it "
            "anew with the reset_mechanism that is meant",
        )
    return stepped


def _tensor(module: Any, name: str) -> Tensor:
    value = getattr(module, name)
    if value.requires_grad and not isinstance(value, nn.Parameter):
        _refuse(
            module,
            f"a {name} that requires a gradient but is no parameter, and a copy would cut it off; build it with "
            f"learn_{name}=True, or detach the tensor",
        )
    return value


def _surrogate(module: Any) -> Surrogate:
    """The surrogate that a neuron's `spike_grad` is, recognised by what it computes: a closure has no name to trust.

    Two values of the derivative give the slope that each surrogate would need; the one that then agrees everywhere
    on the grid is it.
    """
    function: Callable[[Tensor], Tensor] = module.spike_grad
    label = getattr(function, "__qualname__", type(function).__qualname__).split(".<locals>")[0]
    label = f"spike_grad={getattr(function, '__module__', type(function).__module__)}.{label}"
    known = "choose fast_sigmoid, atan, sigmoid or straight_through_estimator of snntorch.surrogate"
    x = _GRID.clone().requires_grad_()
    try:
        with torch.enable_grad():
            spikes = function(x)
            (derivative,) = torch.autograd.grad(spikes.sum(), x)
    except Exception as error:
        _refuse(module, f"{label}, which cannot be differentiated ({error}); {known}")
    if not torch.equal(spikes.detach(), (_GRID > 0).to(spikes.dtype)):
        _refuse(module, f"{label}, whose forward pass is not the step function; {known}")
    at = {value: float(derivative[(_GRID - value).abs().argmin()]) for value in (-1.0, 0.0, 1.0)}
    wide = int((_GRID - 1 / (4 * at[0.0])).abs().argmin()) if at[0.0] > 0 else -1  # about as wide as a sigmoid
    fall = float(derivative[wide]) / at[0.0] if at[0.0] > 0 else 0.0
    slopes = {
        "fast_sigmoid": at[1.0] ** -0.5 - 1 if at[1.0] > 0 else 0.0,
        "atan": 2 * at[0.0],
        "sigmoid": 2 * math.acosh(fall**-0.5) / float(_GRID[wide]) if 0 < fall < 1 else 0.0,  # its height is rounded
        "triangular": at[0.0],
        "straight_through": at[0.0],
    }
    for name, slope in slopes.items():
        if not 0 < slope < float("inf"):
            continue
        surrogate = Surrogate(name, float(f"{slope:.12g}"))
        if _agree(derivative, surrogate.derivative(_GRID)):
            return surrogate
    values = ", ".join(f"{value:g} at {x:g}" for x, value in at.items())
    _refuse(
        module, f"{label}, of derivative {values}, which is none of this package's ({', '.join(SURROGATES)}); {known}"
    )


def _agree(theirs: Tensor, ours: Tensor) -> bool:
    close = (theirs - ours).abs() <= 1e-6 * ours.abs() + 1e-12 * ours.max()  # snnTorch rounds slopes to float32
    return bool((close | (theirs.isnan() & (ours < _TINY))).all())
