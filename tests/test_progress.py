"""Progress bars: what matters is seen on a narrow terminal, and nothing is drawn where nobody watches."""

import io

import pytest
from rich.console import Console

from experiments.progress import StageBar, TrainingBar
from snn_anml.meta import Metrics

METRICS = Metrics(
    step=1500,
    stage="meta",
    loss=1.234,
    accuracy=0.567,
    spikes_per_neuron=0.25,
    learning_rate=1e-3,
    inner_lr=0.02,
    steps_per_second=12.5,
)


def screen(width, terminal=True):
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)


@pytest.mark.parametrize("title", ["training (spiking)", "training (conventional twin)"])
@pytest.mark.parametrize("width", [80, 140])
def test_training_shows_what_matters_at_every_width(title, width):
    console = screen(width)
    with TrainingBar(title, console) as bar:
        bar(1499, 2000, None)
        bar(1500, 2000, METRICS)
    last = console.file.getvalue().split("\r")[-1].splitlines()[0]
    assert "…" not in last
    shown = [title, "1500/2000", "loss 1.23"]
    shown += ["accuracy 0.57", "0.25 spikes/neuron", "12.5 steps/s"] if width == 140 else ["acc 0.57"]
    assert all(text in last for text in shown), last


def test_a_network_without_spikes_shows_none():
    console = screen(140)
    with TrainingBar("training", console) as bar:
        bar(1, 2, METRICS._replace(spikes_per_neuron=0.0))
    assert "spikes" not in console.file.getvalue()


def test_stages_are_named():
    console = screen(80)
    with StageBar.show("export", console) as bar:
        bar("nengo", 0.5)
    assert "export" in console.file.getvalue()
    assert "nengo" in console.file.getvalue()


def test_nothing_is_drawn_where_nobody_watches():
    console = screen(80, terminal=False)
    with TrainingBar("training", console) as bar:
        bar(1, 2, METRICS)
    with StageBar.show("export", console) as bar:
        bar("nengo", 0.5)
    assert console.file.getvalue() == ""
