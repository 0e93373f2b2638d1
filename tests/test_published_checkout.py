"""The published code from a checkout, on a fake one of the same interface: loading, equality, refusals."""

import math
import subprocess
import sys
from types import ModuleType

import pytest
import torch

from benchmarks import published_anml
from benchmarks.published_checkout import load, require_same
from snn_anml.errors import UserError
from snn_anml.meta.published import Drawings, meta_step
from tests.published_helpers import assert_same_step, random_case, together

SIZES = {"nm": 2, "pln": 3, "classes": 5, "channels": 3, "size": 22, "conv_bias": True}
FACTORY = """
from snn_anml.networks.published import PublishedANML

class ModelFactory:
    @staticmethod
    def get_model(treatment, dataset):
        assert (treatment, dataset) == ("Neuromodulation", "omniglot")
        return [(name, value.shape) for name, value in PublishedANML(2, 3, 5, 22, 3, True).named_parameters()]
"""
LEARNER = """
import torch
from benchmarks.restated_anml import restated_logits

class Learner(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.names = [name for name, _ in config]
        self.held = torch.nn.ParameterList(torch.rand(shape) for _, shape in config)

    def parameters(self):
        return self.held

    def forward(self, pictures, weights):
        assert pictures.shape[1:] == (3, 22, 22) and (pictures == pictures[:, :1]).all()
        return restated_logits(dict(zip(self.names, weights)), pictures[:, :1])
"""
META = """
import torch
import torch.nn.functional as F
import model.learner as networks

class MetaLearingClassification(torch.nn.Module):
    def __init__(self, args, config, treatment):
        super().__init__()
        assert not treatment is "OML"  # a SyntaxWarning, as the real code provokes
        self.update_lr, self.update_step = args.update_lr, args.update_step
        self.net = networks.Learner(config)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1.0)

    def forward(self, x_traj, y_traj, x_rand, y_rand):
        start = self.net.parameters()
        weights = list(start)
        for k in range(self.update_step):
            gradients = torch.autograd.grad(F.cross_entropy(self.net(x_traj[k], weights), y_traj[k]), weights)
            weights = [w - self.update_lr * g if p.learn else w for p, w, g in zip(start, weights, gradients)]
        logits = self.net(x_rand[0], weights)
        loss = F.cross_entropy(logits, y_rand[0])
        for p in start:
            p.grad = None
        loss.backward()
        self.optimizer.step()
        return (logits.argmax(1) == y_rand[0]).double().mean().item(), loss
"""


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "ANML"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "__init__.py").write_text("from model.modelfactory import *\n")
    for name, text in {"modelfactory": FACTORY, "learner": LEARNER, "meta_learner": META}.items():
        (folder / "model" / f"{name}.py").write_text(text)
    return folder


def edit(checkout, old, new):
    file = checkout / "model" / "meta_learner.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def drawn(dtype=torch.float64):
    """Weights, drawings, some of which are of the trajectory alone, and the inner learning rate."""
    case = random_case(seed=4, lr=0.1, support=3, remember=4, **SIZES)
    pictures, labels, support, _ = together(case)
    weights = {name: value.to(dtype) for name, value in case.weights.items()}
    return weights, Drawings(pictures.to(dtype), labels, support, 1), case.inner_lr


def test_its_meta_step_is_ours(checkout):
    weights, drawings, lr = drawn()
    before = {name: value.clone() for name, value in weights.items()}
    step, ours = load(checkout).ready(weights, drawings, lr), meta_step(weights, drawings, lr)
    assert_same_step(step(), ours)
    assert_same_step(step(), ours)  # a step of its optimiser would have changed it
    assert all(torch.equal(weights[name], value) for name, value in before.items())


def test_an_equal_loss_passes_in_single_precision(checkout):
    weights, drawings, lr = drawn(torch.float32)
    require_same(load(checkout).ready(weights, drawings, lr)(), meta_step(weights, drawings, lr))


def test_another_loss_is_refused(checkout):
    edit(checkout, "w - self.update_lr * g if p.learn", "w - self.update_lr * g if True")
    weights, drawings, lr = drawn()
    theirs, ours = load(checkout).ready(weights, drawings, lr)(), meta_step(weights, drawings, lr)
    with pytest.raises(UserError, match=r"loss is \S+ and ours \S+ on the same drawings.*without changes\.$"):
        require_same(theirs, ours)


@pytest.mark.parametrize("loss", [1 + 3e-4, 1 - 3e-4, math.nan, math.inf])
def test_the_tolerance_is_relative_and_refuses_what_is_no_number(loss):
    ours = meta_step(*drawn())
    with pytest.raises(UserError, match="apart"):
        require_same(ours._replace(loss=ours.loss * loss), ours)
    require_same(ours._replace(loss=ours.loss * (1 + 3e-5)), ours)


def test_other_sizes_are_refused(checkout):
    weights, drawings, lr = drawn()
    with pytest.raises(UserError, match=r"The checkout's network has tensors of .*use the published sizes\.$"):
        load(checkout).ready(weights | {"pln.out.bias": torch.zeros(9)}, drawings, lr)


@pytest.mark.parametrize("broken", [False, True])
def test_importing_leaves_no_trace(checkout, monkeypatch, broken):
    ours = ModuleType("model")
    monkeypatch.setitem(sys.modules, "model", ours)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    if broken:
        edit(checkout, "import torch\n", "import torch\nraise OSError\n")

    def traces():
        return list(sys.path), sys.dont_write_bytecode, torch.get_rng_state().tolist(), sorted(checkout.rglob("*"))

    before = traces()
    try:
        load(checkout)
    except UserError:
        assert broken
    assert traces() == before
    assert sys.modules["model"] is ours
    assert not [name for name in sys.modules if name.startswith("model.")]


def test_a_folder_that_is_missing_or_holds_something_else(checkout, tmp_path):
    with pytest.raises(UserError, match=r"^No folder \S+absent; name a checkout of https://\S+/ANML\.$"):
        load(tmp_path / "absent")
    (checkout / "model" / "learner.py").unlink()
    with pytest.raises(UserError, match=r"^\S+ has no model/learner\.py; name a checkout of https://\S+/ANML\.$"):
        load(checkout)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("import torch\n", "import not_there.part\n", r"needs the package not_there, which is not installed"),
        ("import torch\n", "a stray line\n", r"fails with SyntaxError: .*line 2\); name a checkout of \S+ that works"),
        ("args, config, treatment", "args, config", "fails with TypeError"),  # its ancestor, OML, takes no treatment
    ],
)
def test_code_that_cannot_be_used(checkout, old, new, message):
    edit(checkout, old, new)
    with pytest.raises(UserError, match=rf"^The code in \S+ {message}"):
        load(checkout)


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_the_checkouts_own(checkout):
    git(checkout.parent, "init", "-q")
    git(checkout.parent, "commit", "-q", "--allow-empty", "-m", "of the folder around")
    assert load(checkout).commit == "unknown"
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "one")
    git(checkout, "tag", "-a", "v1", "-m", "v1")
    commit = git(checkout, "rev-parse", "HEAD")
    published = load(checkout)
    assert published.commit == commit
    said = published_anml.against(published)
    assert said == f"first order: published code at git commit {commit}; second order: re-statement"
    edit(checkout, "import torch\n", "import torch\n\n")
    assert load(checkout).commit == commit + "+changes"


def test_the_benchmark_says_what_is_wrong_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["published_anml", "--published", str(tmp_path / "absent")])
    with pytest.raises(SystemExit, match="2"):
        published_anml.main()
    assert "error: No folder" in capsys.readouterr().err


def test_without_a_checkout_the_restatement_is_named():
    assert published_anml.against(None) == "re-statement"
