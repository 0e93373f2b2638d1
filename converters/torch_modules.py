"""How the modules of torch and snnTorch become nodes; see `converters.graph_builder`."""

from __future__ import annotations

import numpy as np
import snntorch
import torch
from torch import nn

from converters.graph import LIF, Activation, Affine, AvgPool2d, Conv2d
from converters.graph_builder import GraphBuilder, Wire, lowering
from snn_anml.networks.shared_norm import SharedBatchNorm2d
from snn_anml.neurons.from_snntorch import reset_of

# Where the spike function is probed to see that it is a step, in units of the membrane minus the threshold.
STEP_PROBES = (-2.0, -1e-3, 0.0, 1e-3, 2.0)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    return int(height), int(width)


def _evaluating(builder: GraphBuilder, module: nn.Module) -> None:
    if module.training:
        builder.refuse(module, "is in training mode; call eval() on the model first")


def _float32(builder: GraphBuilder, module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.dtype is torch.float64:
            builder.refuse(module, f"has the float64 parameter {name}; call float() on the model first")


@lowering(nn.Sequential)
def _sequential(builder: GraphBuilder, module: nn.Sequential, source: Wire) -> Wire:
    # Unlike named_children(), this gives a module that stands at two places twice, as forward() runs it.
    for name, child in module._modules.items():
        assert child is not None
        source = builder.lower(child, source, name)
    return source


@lowering(nn.Identity)
def _identity(builder: GraphBuilder, module: nn.Identity, source: Wire) -> Wire:
    return source


@lowering(nn.Dropout, nn.Dropout1d, nn.Dropout2d)
def _dropout(builder: GraphBuilder, module: nn.Dropout, source: Wire) -> Wire:
    _evaluating(builder, module)
    return source


@lowering(nn.Flatten)
def _flatten(builder: GraphBuilder, module: nn.Flatten, source: Wire) -> Wire:
    if module.start_dim != 1 or module.end_dim not in (-1, len(source.shape)):
        builder.refuse(module, f"flattens dimensions {module.start_dim} to {module.end_dim}, not 1 to -1")
    return Wire(source.name, (int(np.prod(source.shape)),))


@lowering(nn.Conv2d)
def _conv2d(builder: GraphBuilder, module: nn.Conv2d, source: Wire) -> Wire:
    _float32(builder, module)
    if module.groups != 1:
        builder.refuse(module, f"has groups={module.groups}, not 1")
    if _pair(module.dilation) != (1, 1):
        builder.refuse(module, f"has dilation={module.dilation}, not 1")
    if module.padding_mode != "zeros":
        builder.refuse(module, f"has padding_mode={module.padding_mode!r}, not 'zeros'")
    if len(source.shape) != 3:
        builder.refuse(module, f"needs an input (channels, height, width), but is fed with shape {source.shape}")
    padding = (0, 0) if module.padding == "valid" else module.padding
    if isinstance(padding, str):  # "same"
        if any(k % 2 == 0 for k in module.kernel_size):
            builder.refuse(module, f"pads 'same' around an even kernel {module.kernel_size}")
        padding = tuple(k // 2 for k in module.kernel_size)
    weight = builder.array(module.weight)
    bias = np.zeros(len(weight), np.float32) if module.bias is None else builder.array(module.bias)
    stride, padding = _pair(module.stride), _pair(padding)
    return builder.add(Conv2d, source, weight=weight, bias=bias, stride=stride, padding=padding)


@lowering(nn.Linear)
def _linear(builder: GraphBuilder, module: nn.Linear, source: Wire) -> Wire:
    _float32(builder, module)
    if len(source.shape) != 1:
        builder.refuse(module, f"needs a flat input, but is fed with shape {source.shape}; put a Flatten before it")
    weight = builder.array(module.weight)
    bias = np.zeros(len(weight), np.float32) if module.bias is None else builder.array(module.bias)
    return builder.add(Affine, source, weight=weight, bias=bias)


@lowering(nn.BatchNorm1d, nn.BatchNorm2d, SharedBatchNorm2d)
def _batch_norm(builder: GraphBuilder, module: nn.BatchNorm1d | nn.BatchNorm2d, source: Wire) -> Wire:
    """Folds `(x - mean) / sqrt(variance + eps) * weight + bias` into the layer before, in float64."""
    _float32(builder, module)
    if module.running_mean is None or module.running_var is None:
        builder.refuse(module, "normalises with the statistics of the batch and has no running statistics")
    _evaluating(builder, module)
    before = builder.nodes[source.name]
    flat = isinstance(module, nn.BatchNorm1d)
    if not isinstance(before, Affine if flat else Conv2d) or len(source.shape) != (1 if flat else 3):
        layer = "Linear" if flat else "Conv2d"
        builder.refuse(module, f"can only be folded into a {layer}, which must stand directly before it")
    if builder.read_by(source):
        builder.refuse(module, f"would be folded into {source.name!r}, whose output is also read elsewhere")
    if module.num_features != len(before.weight):
        builder.refuse(module, f"has num_features={module.num_features} but follows {len(before.weight)} outputs")
    mean, variance = module.running_mean.double().cpu().numpy(), module.running_var.double().cpu().numpy()
    scale, shift = 1 / np.sqrt(variance + module.eps), np.zeros_like(mean)
    if module.affine:
        scale = scale * builder.array(module.weight)
        shift = builder.array(module.bias).astype(np.float64)
    weight = before.weight * scale.reshape(-1, *[1] * (before.weight.ndim - 1))
    bias = (before.bias - mean) * scale + shift
    return builder.change(source, weight=weight.astype(np.float32), bias=bias.astype(np.float32))


@lowering(nn.AvgPool2d)
def _avg_pool2d(builder: GraphBuilder, module: nn.AvgPool2d, source: Wire) -> Wire:
    if _pair(module.padding) != (0, 0) or module.ceil_mode or module.divisor_override is not None:
        builder.refuse(module, "must have padding=0, ceil_mode=False and divisor_override=None")
    if len(source.shape) != 3:
        builder.refuse(module, f"needs an input (channels, height, width), but is fed with shape {source.shape}")
    return builder.add(AvgPool2d, source, kernel=_pair(module.kernel_size), stride=_pair(module.stride))


@lowering(nn.ReLU)
def _relu(builder: GraphBuilder, module: nn.ReLU, source: Wire) -> Wire:
    return replace_shape(builder.add(Activation, source, function="relu"), source)


@lowering(nn.Sigmoid)
def _sigmoid(builder: GraphBuilder, module: nn.Sigmoid, source: Wire) -> Wire:
    return replace_shape(builder.add(Activation, source, function="sigmoid"), source)


def replace_shape(wire: Wire, source: Wire) -> Wire:
    """The wire with the torch shape of its source, for nodes that work element by element."""
    return Wire(wire.name, source.shape)


@lowering(snntorch.Leaky)
def _leaky(builder: GraphBuilder, module: snntorch.Leaky, source: Wire) -> Wire:
    builder.once(module)
    if module.inhibition:
        builder.refuse(module, "has inhibition=True, which is not supported")
    if module.state_quant:
        builder.refuse(module, "has state_quant set, which is not supported")
    if not bool((module.graded_spikes_factor == 1).all()):
        factor = module.graded_spikes_factor.tolist()
        builder.refuse(module, f"has graded spikes (graded_spikes_factor={factor}), which are not supported")
    probes = torch.tensor(STEP_PROBES)
    with torch.no_grad():
        if not torch.equal(module.spike_grad(probes.clone()).float(), (probes > 0).float()):
            builder.refuse(module, "has a spike_grad whose forward pass is not the step function")
    lif = builder.add(
        LIF,
        source,
        beta=neuron_parameter(builder, module, "beta", module.beta.clamp(0, 1), source.shape),
        threshold=neuron_parameter(builder, module, "threshold", module.threshold, source.shape),
        reset=reset_of(module),
        reset_delay=bool(module.reset_delay),
    )
    return replace_shape(lif, source)


def neuron_parameter(
    builder: GraphBuilder, module: nn.Module, name: str, value: torch.Tensor, shape: tuple[int, ...]
) -> np.ndarray:
    """A parameter as (), or as (n,) where it differs from neuron to neuron, broadcast as torch does it."""
    array = builder.array(value)
    if array.size == 1:
        return array.reshape(())
    if array.ndim == len(shape) + 1 and array.shape[0] == 1:
        array = array[0]
    try:
        return np.array(np.broadcast_to(array, shape), np.float32).reshape(-1)
    except ValueError:
        builder.refuse(module, f"has a {name} of shape {array.shape}, which does not fit its input of shape {shape}")
