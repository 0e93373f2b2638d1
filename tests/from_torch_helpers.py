"""Models of torch and snnTorch, stepped by torch in a loop, next to their graphs."""

from __future__ import annotations

import numpy as np
import snntorch
import torch
from snntorch._neurons.neurons import SpikingNeuron
from torch import nn

from converters import compare, from_torch, simulate
from converters.graph import Graph, MaxPool2d
from converters.recording import Recording

POOLS = (nn.MaxPool1d, nn.MaxPool2d)


def leaky(**options) -> snntorch.Leaky:
    return snntorch.Leaky(**({"beta": 0.9, "init_hidden": True} | options))


def dyadic_model(model: nn.Module, seed: int, bits: int = 4, limit: int = 8) -> nn.Module:
    """Gives all weights multiples of 2**-bits of at most limit * 2**-bits, and normalisations that keep them dyadic;
    in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def units(shape, low, high):
        return torch.randint(low, high + 1, shape, generator=generator).float()

    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            for parameter in module.parameters():
                parameter.data = units(parameter.shape, -limit, limit) / 2**bits
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eps = 0.0
            module.running_mean = units(module.running_mean.shape, -4, 4) / 16
            module.running_var = 4.0 ** units(module.running_var.shape, -1, 1)
            module.weight.data = units(module.weight.shape, 1, 4) / 2
            module.bias.data = units(module.bias.shape, 0, 4) / 4
    return model.eval()


def samples(seed: int, *shape: int) -> torch.Tensor:
    """Multiples of 1/16 in [0, 1], so that sums of products with dyadic weights are exact."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 17, shape, generator=generator).float() / 16


@torch.no_grad()
def stepped(model: nn.Module, x: torch.Tensor, steps: int) -> tuple[np.ndarray, dict, dict]:
    """Output of the model, a mean over the steps, and at every step, (B, T, n), the spikes of its neurons and what its
    maximum pools send that is above 0, and the membranes of its neurons."""
    neurons = {name: m for name, m in model.named_modules() if isinstance(m, SpikingNeuron)}
    watched = {name: m for name, m in model.named_modules() if isinstance(m, (SpikingNeuron, *POOLS))}
    spikes, membranes = {name: [] for name in watched}, {name: [] for name in neurons}
    hooks = []
    for name, module in watched.items():

        def keep(module, arguments, result, name=name):
            spikes[name].append((result[0] if isinstance(result, tuple) else result).flatten(1).numpy() > 0)

        hooks.append(module.register_forward_hook(keep))
    for neuron in neurons.values():
        neuron.reset_mem()
    outputs = []
    for _ in range(steps):
        outputs.append(model(x))
        for name, neuron in neurons.items():
            membranes[name].append(neuron.mem.flatten(1).numpy().copy())
    for hook in hooks:
        hook.remove()
    rows = [{name: np.stack(v, axis=1) for name, v in kind.items()} for kind in (spikes, membranes)]
    return (sum(outputs) / steps).flatten(1).numpy(), *rows


def check(model: nn.Module, x: torch.Tensor, steps: int, atol: float = 2e-5, **options) -> tuple[Graph, Recording]:
    """The graph in the interpreter against the model in torch, and in the torch backend; bit for bit with atol 0."""
    graph = from_torch(model, steps=steps, example_input=x, **options)
    recording = simulate(graph, x)
    output, spikes, membranes = stepped(model, x, steps)
    assert recording.spikes.keys() == {name for name in spikes if not isinstance(graph[name], MaxPool2d)}
    for name in recording.spikes:
        np.testing.assert_array_equal(recording.spikes[name], spikes[name], err_msg=name)
    for name, expected in membranes.items():
        np.testing.assert_allclose(recording.membrane[name], expected, rtol=0, atol=atol, err_msg=name)
    np.testing.assert_allclose(recording.output, output, rtol=0, atol=atol)
    fidelity = compare(simulate(graph, x, backend="torch"), recording)
    assert fidelity.identical if atol == 0 else fidelity.mismatches == 0
    return graph, recording
