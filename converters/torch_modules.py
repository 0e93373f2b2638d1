"""How the modules of torch become nodes; see `converters.graph_builder`, and `converters.torch_neurons` for neurons."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from converters.graph import LIF, Activation, Affine, AvgPool2d, Conv2d, Input, MaxPool2d
from converters.graph_builder import GraphBuilder, Wire, lowering
from snn_anml.networks.shared_norm import SharedBatchNorm2d


def _pair(value: int | tuple[int, ...], dims: int, height: int) -> tuple[int, int]:
    """An option of a layer of `dims` dimensions as (height, width); of one dimension, the height is the given one."""
    values = (value,) * dims if isinstance(value, int) else value
    height, width = (height, *values)[-2:]
    return int(height), int(width)


def _of_dims(wire: Wire, dims: int) -> Wire:
    """The output of a layer of `dims` dimensions: (channels, length), or (channels, height, width)."""
    return Wire(wire.name, (wire.shape[0], *wire.shape[-dims:]))


def _need_picture(builder: GraphBuilder, module: nn.Module, source: Wire, dims: int) -> None:
    if len(source.shape) != dims + 1:
        needed = "(channels, length)" if dims == 1 else "(channels, height, width)"
        builder.refuse(module, f"needs an input {needed}, but is fed with shape {source.shape}")


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


@lowering(nn.Conv1d, nn.Conv2d)
def _convolution(builder: GraphBuilder, module: nn.Conv1d | nn.Conv2d, source: Wire) -> Wire:
    _float32(builder, module)
    if module.padding_mode != "zeros":
        builder.refuse(module, f"has padding_mode={module.padding_mode!r}, not 'zeros'")
    dims = len(module.kernel_size)
    _need_picture(builder, module, source, dims)
    padding = module.padding
    if padding == "valid":
        padding = 0
    elif isinstance(padding, str):  # "same"
        around = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(n % 2 for n in around):
            builder.refuse(module, f"pads 'same' around an even kernel {module.kernel_size}, more on one side")
        padding = tuple(n // 2 for n in around)
    weight = builder.array(module.weight)
    wire = builder.add(
        Conv2d,
        source,
        weight=weight.reshape(*weight.shape[:2], *(1,) * (2 - dims), *module.kernel_size),
        bias=np.zeros(len(weight), np.float32) if module.bias is None else builder.array(module.bias),
        stride=_pair(module.stride, dims, 1),
        padding=_pair(padding, dims, 0),
        dilation=_pair(module.dilation, dims, 1),
        groups=module.groups,
    )
    return _of_dims(wire, dims)


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
    of_vectors = isinstance(module, nn.BatchNorm1d)
    fits = {1: Affine, 2: Conv2d} if of_vectors else {3: Conv2d}
    if not isinstance(before, (Affine, Conv2d)) or fits.get(len(source.shape)) is not type(before):
        layer = "Linear or a Conv1d" if of_vectors else "Conv2d"
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


def _mean(builder: GraphBuilder, module: Any, source: Wire, dims: int) -> Wire:
    """The mean over every window of a pool."""
    _need_picture(builder, module, source, dims)
    kernel, stride = _pair(module.kernel_size, dims, 1), _pair(module.stride, dims, 1)
    return _of_dims(builder.add(AvgPool2d, source, kernel=kernel, stride=stride), dims)


@lowering(nn.AvgPool1d, nn.AvgPool2d)
def _avg_pool(builder: GraphBuilder, module: nn.AvgPool1d | nn.AvgPool2d, source: Wire) -> Wire:
    dims = 1 if isinstance(module, nn.AvgPool1d) else 2
    divisor = getattr(module, "divisor_override", None)
    if any(_pair(module.padding, dims, 0)) or module.ceil_mode or divisor is not None:
        builder.refuse(module, "must have padding=0, ceil_mode=False and divisor_override=None")
    return _mean(builder, module, source, dims)


@lowering(nn.MaxPool1d, nn.MaxPool2d)
def _max_pool(builder: GraphBuilder, module: nn.MaxPool1d | nn.MaxPool2d, source: Wire) -> Wire:
    """A maximum; of spikes it is their OR, neurons without memory that spike where the mean of the spikes is not 0."""
    dims = 1 if isinstance(module, nn.MaxPool1d) else 2
    if _pair(module.dilation, dims, 1) != (1, 1) or module.ceil_mode or module.return_indices:
        builder.refuse(module, "must have dilation=1, ceil_mode=False and return_indices=False")
    before = builder.nodes[source.name]
    kernel, padding = _pair(module.kernel_size, dims, 1), _pair(module.padding, dims, 0)
    spikes = isinstance(before, LIF) or (isinstance(before, Input) and before.encoding != "constant")
    # Averages and neurons say the same of spikes as a MaxPool2d, and plain Nengo, Loihi and NIR have them.
    if spikes and padding == (0, 0):
        with builder.inside("mean"):
            mean = _mean(builder, module, source, dims)
        # Halfway between no spike and one, for the sake of hardware that rounds.
        threshold = np.array(0.5 / np.prod(kernel), np.float32)
        return builder.add(LIF, mean, beta=np.zeros((), np.float32), threshold=threshold, reset="none")
    _need_picture(builder, module, source, dims)
    stride = _pair(module.stride, dims, 1)
    return _of_dims(builder.add(MaxPool2d, source, kernel=kernel, stride=stride, padding=padding), dims)


@lowering(nn.ReLU)
def _relu(builder: GraphBuilder, module: nn.ReLU, source: Wire) -> Wire:
    return builder.add(Activation, source, function="relu")


@lowering(nn.Sigmoid)
def _sigmoid(builder: GraphBuilder, module: nn.Sigmoid, source: Wire) -> Wire:
    return builder.add(Activation, source, function="sigmoid")


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
