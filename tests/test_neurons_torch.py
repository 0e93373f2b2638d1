"""The fused neurons within the rest of torch: torch.func, autocast, torch.compile, layouts, sizes."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap

from snn_anml.errors import UserError
from snn_anml.neurons import AdaptiveLeaky, Leaky, LIFParameters, State, Surrogate, Synaptic, lif, lif_eager
from tests.neuron_helpers import Layer, assert_same_derivatives, currents, derivatives, outputs, uniform

P = LIFParameters(0.8, 0.7, surrogate=Surrogate("atan", 2.0))
RICH = P._replace(reset="zero", reset_delay=False, detach_reset=False, alpha=0.5, rho=0.9, adaptation=0.5)
VARIANTS = pytest.mark.parametrize("p", [P, P._replace(reset="zero"), RICH], ids=["plain", "zero", "rich"])


def loss_of(run, p):
    """A scalar of currents, beta and gate, nonlinear in the spikes."""

    def loss(x, beta, gate):
        s, state = run(x, p._replace(beta=beta), gate=gate)
        weights = torch.arange(1.0, 1 + s[0].numel(), dtype=x.dtype).view(s[0].shape)
        return (weights * s * (1 + state.membrane)).sum() + (state.membrane**2).sum()

    return loss


def arguments():
    return (
        currents((4, 2, 3), 0).detach(),
        uniform((3,), 0.2, 0.9, 1).detach(),
        uniform((1, 2, 3), 0.5, 1.5, 2).detach(),
    )


def close(ours, oracle):
    torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-9)


@VARIANTS
def test_grad_and_grad_of_grad(p):
    for argument in range(3):

        def second(run, k=argument):
            first = grad(loss_of(run, p), argnums=k)
            return grad(lambda *a: (first(*a) ** 2).sum(), argnums=(0, 1, 2))(*arguments())

        close(
            grad(loss_of(lif, p), argnums=argument)(*arguments()), grad(loss_of(lif_eager, p), argument)(*arguments())
        )
        close(second(lif), second(lif_eager))


@VARIANTS
@pytest.mark.parametrize("run", [lif, None], ids=["one", "vmapped"])
def test_grad_of_grad_of_one_argument_after_the_other(p, run):
    """Only the outer argument wants a gradient of the inner gradient, which moves another one."""
    for inner, outer in itertools.product(range(3), repeat=2):

        def mixed(which, i=inner, o=outer):
            first = grad(loss_of(which, p), argnums=i)
            return grad(lambda *a: (first(*a) ** 2).sum(), argnums=o)

        if run is not None:
            close(mixed(lif)(*arguments()), mixed(lif_eager)(*arguments()))
            continue
        stacks = [torch.stack([x, x * 0.9]) for x in arguments()]
        ours = vmap(mixed(lif))(*stacks)
        close(ours, torch.stack([mixed(lif_eager)(*(x[k] for x in stacks)) for k in range(2)]))


@pytest.mark.parametrize("wanted", list(itertools.product((False, True), repeat=3))[1:])
@VARIANTS
def test_some_arguments_want_gradients_and_others_do_not(p, wanted):
    results = []
    for run in (lif, lif_eager):
        leaves = [x.requires_grad_(want) for x, want in zip(arguments(), wanted, strict=True)]
        chosen = [x for x in leaves if x.requires_grad]
        first = torch.autograd.grad(loss_of(run, p)(*leaves), chosen, create_graph=True)
        results += [first, torch.autograd.grad(sum((g**2).sum() for g in first), chosen)]
    for ours, oracle in (results[0::2], results[1::2]):
        for x, y in zip(ours, oracle, strict=True):
            close(x, y)


def test_spikes_may_be_changed_in_place():
    """The membrane may not: its values are needed for the gradient, and torch says so."""
    x, mask = currents((4, 2, 3), 0), torch.tensor([1.0, 0, 1], dtype=torch.float64)
    s, state = lif(x, P)
    s *= mask
    close(torch.autograd.grad(s.sum(), x, retain_graph=True), torch.autograd.grad((lif_eager(x, P)[0] * mask).sum(), x))
    state.membrane.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(state.membrane.sum(), x)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_tracers_and_modes_see_every_operation():
    """Whoever records operations gets those of the definition; a kernel would be missing from the record."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    x = currents((4, 2, 3), 0).detach()
    expected = lif(x, P)[0]
    with torch.no_grad():
        recorded = [torch.jit.trace(lambda x: lif(x, P)[0], x), make_fx(lambda x: lif(x, P)[0])(x)]
    other = x.flip(0)
    assert all(torch.equal(run(other), lif(other, P)[0]) for run in recorded)
    with FakeTensorMode():
        assert lif(torch.ones(4, 2, 3), P)[0].shape == (4, 2, 3)
    with torch.device("meta"):
        assert torch.equal(lif(x, P)[0], expected)
        Leaky(learn_beta=True)
    assert torch.equal(lif(x, P)[0], expected)


@VARIANTS
@pytest.mark.parametrize("mapped", [(1, None, None), (None, 0, None), (None, None, 1), (2, 1, 0), (0, 0, 0)])
def test_vmap_over_any_argument_of_gradients_to_second_order(p, mapped):
    sizes = [(4, 2, 3), (3,), (1, 2, 3)]
    stacks = [
        uniform((5, *size), 0.3, 0.9, k).detach().movedim(0, dim)
        if dim is not None
        else uniform(size, 0.3, 0.9, k).detach()
        for k, (size, dim) in enumerate(zip(sizes, mapped, strict=True))
    ]

    def everything(run):
        loss = loss_of(run, p)
        first = grad(loss, argnums=(0, 1, 2))

        def of(*a):
            second = grad(lambda *b: sum((g**2).sum() for g in first(*b)), argnums=(0, 1, 2))
            return loss(*a), first(*a), second(*a)

        return of

    ours = vmap(everything(lif), in_dims=mapped)(*stacks)
    singly = [
        everything(lif_eager)(*(x if dim is None else x.select(dim, k) for x, dim in zip(stacks, mapped, strict=True)))
        for k in range(5)
    ]
    leaves = torch.utils._pytree.tree_leaves
    for x, *ys in zip(leaves(ours), *map(leaves, singly), strict=True):
        close(x, torch.stack(ys))


def test_an_ensemble_by_functional_call_and_vmap():
    """Models of other weights and decays, in one call, as torch's own ensembling recipe does it."""

    def model(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 5), Leaky(torch.rand(5), learn_beta=True)).double()

    models, x = [model(seed) for seed in range(3)], currents((4, 2, 6), 0).detach()
    parameters, buffers = torch.func.stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")
    spikes, membrane = vmap(lambda p, b: functional_call(base, (p, b), (x,)))(parameters, buffers)
    for k, one in enumerate(models):
        expected = one(x)
        assert torch.equal(spikes[k], expected[0])
        close(membrane[k], expected[1])


def test_jacobian_and_hessian_by_reverse_mode():
    def quadratic(run):
        return lambda x: (run(x, P)[1].membrane ** 2).sum()

    x = currents((3, 2), 0).detach()
    close(jacrev(lambda x: lif(x, P)[0])(x), jacrev(lambda x: lif_eager(x, P)[0])(x))
    close(jacrev(jacrev(quadratic(lif)))(x), jacrev(jacrev(quadratic(lif_eager)))(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_currents_have_a_float32_membrane(dtype):
    x = currents((20, 3, 5), 0, torch.float32).detach().to(dtype).requires_grad_()
    gate = uniform((1, 3, 1), 0.5, 1.5, 1, torch.float32).detach().to(dtype).requires_grad_()
    results = [derivatives(Layer(x, P, 20, gate), 0, run) for run in (lif, lif_eager)]
    assert [y.dtype for y in results[0][0]] == [dtype, torch.float32]
    assert [y.dtype for y in results[0][1]] == [dtype, dtype]
    assert torch.equal(results[0][0][1], lif(x.float(), P, gate=gate.float())[1].membrane)
    assert torch.equal(results[0][0][1], results[1][0][1])
    for ours, oracle in zip(results[0][1] + results[0][2], results[1][1] + results[1][2], strict=True):
        torch.testing.assert_close(ours, oracle, rtol=2e-2, atol=5e-2)


def test_within_autocast():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), Leaky(0.9, learn_threshold=True))
    x = torch.rand(4, 3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        spikes, membrane = model(x)
        (spikes.sum() + membrane.sum()).backward()
    assert (spikes.dtype, membrane.dtype) == (torch.bfloat16, torch.float32)
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.filterwarnings(  # what the compiler of torch 2.13 itself uses
    "ignore:.*should not be instantiated:DeprecationWarning",
    "ignore:.*torch.jit.script:DeprecationWarning",
    # It pickles, and pickle asks all imported modules for names; some of jsonargparse warn when asked.
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning",
)
@pytest.mark.parametrize(
    ("layer", "backend"),
    [
        (Leaky(learn_beta=True), "inductor"),
        (Leaky(learn_beta=True), "aot_eager"),
        (Synaptic(), "aot_eager"),
        (AdaptiveLeaky(reset_delay=False), "aot_eager"),
    ],
    ids=["inductor", "leaky", "synaptic", "adaptive"],
)
def test_compiled_to_first_order(layer, backend):
    """Compiled, the definition runs, and the compiler fuses it: one graph, no breaks."""
    torch.compiler.reset()
    layer = copy.deepcopy(layer)
    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    x, gate = currents((5, 2, 6), 0, torch.float32), uniform((1, 2, 1), 0.5, 1.5, 1, torch.float32)
    leaves = [x, gate, *layer.parameters()]
    results = []
    for run in (compiled, layer):
        spikes, *states = run(x, gate=gate)
        loss = (spikes * torch.arange(6.0)).sum() + sum((state**2).sum() for state in states)
        results.append([spikes, *states, *torch.autograd.grad(loss, leaves)])
    for ours, oracle in zip(*results, strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 1), (4, 0, 3), (4, 1, 3), (2,), (0, 2)])
def test_sizes_of_one_and_none(shape):
    x = currents(shape, 0)
    if shape[0] == 0:
        with pytest.raises(UserError, match="0 steps"):
            lif(x, P)
        return
    for p in (P, RICH):
        ours = derivatives(Layer(x, p, len(x)), 0)
        assert_same_derivatives(ours, derivatives(Layer(x, p, len(x)), 0, lif_eager), 1e-10)


LAYOUTS = {
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "every other": lambda x: x.repeat_interleave(2, 4)[..., ::2],
    "time last": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "channels last": lambda x: x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x.shape[:2]),
    "expanded": lambda x: x[:, :1].expand(x.shape),
    "offset": lambda x: torch.cat((x, x), 1)[:, 2:],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_layout_in_memory(layout):
    x = layout(currents((4, 2, 3, 5, 6), 0).detach())
    gate = uniform((4, 1, 3, 1, 6), 0.5, 1.5, 1)
    state = State(uniform((3, 1, 1), 0, 1, 2), None, None)
    laid_out = derivatives(Layer(x.requires_grad_(), P, 4, gate, state), 0)
    usual = derivatives(Layer(x.detach().contiguous().requires_grad_(), P, 4, gate, state), 0)
    assert_same_derivatives(laid_out, usual, 1e-10)


def test_channels_last_stays_channels_last():
    x = LAYOUTS["channels last"](currents((4, 2, 3, 5, 6), 0).detach()).requires_grad_()
    spikes, membrane = outputs(Layer(x, P, 4))
    (gradient,) = torch.autograd.grad(spikes.sum(), x)
    for y in (spikes, membrane, gradient):
        assert y[0].is_contiguous(memory_format=torch.channels_last)


def test_inputs_are_left_as_they_were():
    x, gate = currents((4, 2, 3), 0), uniform((4, 2, 3), 0.5, 1.5, 1)
    before = x.detach().clone(), gate.detach().clone()
    derivatives(Layer(x, RICH, 4, gate), 0)
    assert torch.equal(x, before[0])
    assert torch.equal(gate, before[1])
