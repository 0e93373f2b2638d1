"""Configurations: every check names the key, what it was and what it must be; files and back."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.config_file import read_config
from experiments.run_folder import to_plain
from snn_anml.config import (
    DataConfig,
    ExportConfig,
    MetaConfig,
    MetaTestConfig,
    NetworkConfig,
    RunConfig,
    TrainConfig,
)
from snn_anml.errors import UserError

FILES = sorted((Path(__file__).parents[1] / "experiments" / "configs").glob("*.yaml"))
CONFIGS = [path for path in FILES if "arms" not in yaml.safe_load(path.read_text(encoding="utf-8"))]
SECTIONS = {
    "data": DataConfig,
    "network": NetworkConfig,
    "train": TrainConfig,
    "meta": MetaConfig,
    "meta_test": MetaTestConfig,
    "export": ExportConfig,
}
NAN = float("nan")
WHOLE = {"adapt": "pln", "head": "meta", "learn_inner_lr": False}

# Section, what is set, and the key that the message must name first.
OUT_OF_RANGE = [
    ("data", {"size": 7}, "data.size"),
    ("data", {"meta_test_classes": 1}, "data.meta_test_classes"),
    ("data", {"selection_classes": 1}, "data.selection_classes"),
    ("network", {"steps": 0}, "network.steps"),
    ("network", {"beta": -0.1}, "network.beta"),
    ("network", {"beta": 1.1}, "network.beta"),
    ("network", {"beta": NAN}, "network.beta"),
    ("network", {"nm_beta": 2.0}, "network.nm_beta"),
    ("network", {"threshold": 0.0}, "network.threshold"),
    ("network", {"slope": -1.0}, "network.slope"),
    ("network", {"widths": ()}, "network.widths"),
    ("network", {"widths": (4, 0)}, "network.widths"),
    ("network", {"nm_widths": ()}, "network.nm_widths"),
    ("network", {"nm_widths": (-1,)}, "network.nm_widths"),
    ("network", {"neuron": "relu", "modulation": "spiking"}, "network.modulation"),
    ("network", {"neuron": "relu", "encoding": "rate"}, "network.encoding"),
    ("meta", {"trajectories": 0}, "meta.trajectories"),
    ("meta", {"classes": 0}, "meta.classes"),
    ("meta", {"shots": 0}, "meta.shots"),
    ("meta", {"queries": -1}, "meta.queries"),
    ("meta", {"remember": -1, "head": "meta"}, "meta.remember"),
    ("meta", {"remember": 1, "head": "zero"}, "meta.remember"),
    ("meta", {"inner_lr": 0.0}, "meta.inner_lr"),
    ("meta", {"inner_batch": -1, **WHOLE}, "meta.inner_batch"),
    ("meta", {"redraw": "meta"}, "meta.redraw"),
    ("meta", {"inner_batch": 0}, "meta.inner_batch"),
    ("meta", {"inner_passes": 0, **WHOLE}, "meta.inner_passes"),
    ("meta", {"inner_passes": 2}, "meta.inner_passes"),
    ("meta", WHOLE | {"head": "zero"}, "meta.head"),
    ("meta", {"head": "slots"}, "meta.head"),
    ("meta", WHOLE | {"head": "slots", "queries": 0}, "meta.queries"),
    ("meta", WHOLE | {"head": "slots", "remember": 1}, "meta.remember"),
    ("meta", WHOLE | {"head": "slots", "order": "none", "redraw": "meta"}, "meta.head"),
    ("train", {"warm_steps": -1}, "train.warm_steps"),
    ("train", {"meta_steps": -1}, "train.meta_steps"),
    ("train", {"warm_batch": 1}, "train.warm_batch"),
    ("train", {"learning_rate": 0.0}, "train.learning_rate"),
    ("train", {"learning_rate": NAN}, "train.learning_rate"),
    ("train", {"spike_weight": -0.1}, "train.spike_weight"),
    ("train", {"log_every": 0}, "train.log_every"),
    ("train", {"checkpoint_every": 0}, "train.checkpoint_every"),
    ("meta_test", {"milestones": ()}, "meta_test.milestones"),
    ("meta_test", {"milestones": (10, 5)}, "meta_test.milestones"),
    ("meta_test", {"milestones": (5, 5)}, "meta_test.milestones"),
    ("meta_test", {"milestones": (0, 5)}, "meta_test.milestones"),
    ("meta_test", {"heads": ()}, "meta_test.heads"),
    ("meta_test", {"protocols": ()}, "meta_test.protocols"),
    ("meta_test", {"heads": ("adam", "adam")}, "meta_test.heads"),
    ("meta_test", {"protocols": ("strict", "strict")}, "meta_test.protocols"),
    ("meta_test", {"draws": 0}, "meta_test.draws"),
    ("meta_test", {"paper_draws": 0}, "meta_test.paper_draws"),
    ("meta_test", {"selection_draws": 0}, "meta_test.selection_draws"),
    ("meta_test", {"shots": 0}, "meta_test.shots"),
    ("export", {"samples": 0}, "export.samples"),
    ("export", {"classes": 1}, "export.classes"),
]


@pytest.mark.parametrize(("section", "values", "key"), OUT_OF_RANGE, ids=lambda value: str(value))
def test_a_value_out_of_range_is_named_with_what_is_right(section, values, key):
    with pytest.raises(UserError) as caught:
        SECTIONS[section](**values)
    shown = re.escape(repr(values[key.split(".")[1]]))
    assert re.fullmatch(rf"{re.escape(key)} = {shown}; it must be .+\.", str(caught.value))


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(UserError, match=f"seed = {seed}; it must be in"):
        RunConfig(seed=seed)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": DataConfig(meta_test_classes=599)}, "ends at 600 classes, but data.meta_test_classes = 599"),
        (
            {"meta_test": MetaTestConfig(heads=("adam",))},
            r"export.head = 'class-mean' is not among meta_test.heads = \('adam',\)",
        ),
        ({"export": ExportConfig(classes=201)}, "export.classes = 201 is not among meta_test.milestones"),
    ],
)
def test_sections_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        RunConfig(**values)


def test_limits_themselves_are_allowed():
    DataConfig(size=8, meta_test_classes=2, selection_classes=2)
    NetworkConfig(steps=1, beta=0.0, nm_beta=1.0, widths=(1,), nm_widths=(1,))
    NetworkConfig(neuron="relu", modulation="none")
    MetaConfig(trajectories=1, classes=1, shots=1, queries=0, remember=0)
    MetaConfig(adapt="pln", head="slots", learn_inner_lr=False, queries=1, inner_batch=0, inner_passes=1, order="first")
    MetaConfig(adapt="pln", head="meta", learn_inner_lr=False, inner_batch=3, inner_passes=2)
    TrainConfig(warm_steps=0, meta_steps=0, warm_batch=2, spike_weight=0.0, log_every=1, checkpoint_every=1)
    MetaTestConfig(milestones=(1,), draws=1, paper_draws=1, selection_draws=1, shots=1)
    ExportConfig(samples=1, classes=2)
    RunConfig(seed=2**31 - 1)


@pytest.mark.parametrize("kind", [*SECTIONS.values(), RunConfig])
def test_every_option_is_described(kind):
    for field in fields(kind):
        if field.name not in SECTIONS:
            assert re.search(rf"^ +{field.name}: \S", kind.__doc__, re.MULTILINE), field.name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_configurations_that_come_with_it_are_valid(path):
    config = read_config(path)
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    plain = to_plain(config)
    for section, values in given.items():  # everything the file says has arrived
        for key, value in values.items() if isinstance(values, dict) else [(None, values)]:
            assert (plain[section] if key is None else plain[section][key]) == value


def test_there_are_configurations_to_start_from():
    assert {path.stem for path in CONFIGS} >= {"demo", "omniglot_spiking"}


def written_and_read(config, path, extra=None):
    path.write_text(yaml.safe_dump(to_plain(config) | (extra or {})), encoding="utf-8")
    return read_config(path)


floats = st.floats(1e-9, 1e9) | st.sampled_from([1e-3, 3e-5, 1.0])
counts = st.integers(1, 10**6)
widths = st.lists(st.integers(1, 512), min_size=1, max_size=4).map(tuple)


@st.composite
def configs(draw):
    milestones = tuple(sorted(draw(st.sets(st.integers(2, 600), min_size=1, max_size=5))))
    return RunConfig(
        seed=draw(st.integers(0, 2**31 - 1)),
        twin=draw(st.booleans()),
        data=DataConfig(name=draw(st.text("abc-12 :#", min_size=1)), size=draw(st.integers(8, 105))),
        network=NetworkConfig(
            steps=draw(counts),
            beta=draw(st.floats(0, 1)),
            threshold=draw(floats),
            reset=draw(st.sampled_from(["subtract", "zero", "none"])),
            widths=draw(widths),
            nm_widths=draw(widths),
            modulation=draw(st.sampled_from(["conventional", "spiking", "none"])),
        ),
        train=TrainConfig(learning_rate=draw(floats), spike_weight=draw(floats), tensorboard=draw(st.booleans())),
        meta=MetaConfig(inner_lr=draw(floats), head="meta", remember=draw(counts)),
        meta_test=MetaTestConfig(milestones=milestones, heads=("sgd",), protocols=("paper",)),
        export=ExportConfig(
            head="sgd", classes=milestones[-1], backends=tuple(draw(st.lists(st.sampled_from(["a", "nengo-dl", "1"]))))
        ),
    )


@settings(max_examples=25, deadline=None)  # each builds a parser
@given(config=configs())
def test_a_configuration_written_as_yaml_reads_back_the_same(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    assert written_and_read(config, path, {"provenance": {"versions": {"python": "3"}}}) == config


def test_every_part_is_a_frozen_dataclass():
    for field in fields(RunConfig):
        value = getattr(RunConfig(), field.name)
        if is_dataclass(value):
            with pytest.raises(AttributeError):
                value.anything = 1
