"""Comparison files: what is read from them, and every mistake in one sentence."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from converters.energy import Device
from experiments.compare.plan import bits_for
from experiments.compare.plan_file import merged, read_comparison, write_comparison_file
from experiments.config_file import read_config
from experiments.run_folder import to_plain
from snn_anml.errors import UserError
from tests.cli_helpers import write_yaml
from tests.compare_helpers import COMPARISON, DEVICE, SETTINGS

CONFIGS = Path(__file__).parents[1] / "experiments" / "configs"
SWEEP = {"setting": "train.spike_weight", "arm": "spiking", "values": [0, 0.03], "seeds": [4]}


@pytest.fixture
def file(tmp_path):
    """Writes a comparison, changed as given: dotted key -> value, None to take it out."""

    def write(**changes):
        content = copy.deepcopy(COMPARISON)
        for key, value in changes.items():
            *inside, last = key.split("__")
            section = content
            for name in inside:
                section = section.setdefault(name, {})
            section[last] = value
        return write_yaml(tmp_path / "mine.yaml", content)

    return write


def refusal(*paths, **options):
    with pytest.raises(UserError) as caught:
        read_comparison(paths, **options)
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


# --- what is read


def test_the_comparisons_that_come_with_it_are_valid():
    demo = read_comparison([CONFIGS / "compare_demo.yaml"])
    assert {(job.arm, job.seed) for job in demo.jobs} == {(a, s) for a in ("spiking", "twin", "no-nm") for s in (0, 1)}
    omniglot = read_comparison([CONFIGS / "omniglot_600.yaml"])
    assert omniglot.reference == "twin"
    assert omniglot.quantised_bits("twin") == (8, 3)
    assert {arm.config.train.warm_steps + arm.config.train.meta_steps for arm in omniglot.arms} == {5000}
    assert omniglot.arms[0].config.meta_test.milestones == (10, 50, 75, 100, 200, 300, 400, 500, 600)


def test_arms_share_settings_and_have_their_own(file):
    found = read_comparison([file(seeds=[0, 7], arms__twin__seeds=[3])])
    assert (found.title, found.seeds, found.reference) == ("A small comparison", (0, 7), "twin")
    spiking, twin = found.arms
    assert (spiking.title, spiking.seeds, twin.seeds) == ("spiking, conventional NM", (0, 7), (3,))
    assert (spiking.config.network.neuron, twin.config.network.neuron) == ("lif", "relu")
    for arm in found.arms:
        assert arm.config.network.widths == (6, 8)
        assert arm.config.twin is False
    assert [(job.arm, job.seed, job.config.seed) for job in found.jobs] == [
        ("spiking", 0, 0),
        ("twin", 3, 3),
        ("spiking", 7, 7),
    ]


def test_the_settings_closest_to_an_arm_hold(file, tmp_path):
    write_yaml(tmp_path / "base.yaml", {"seed": 9, "twin": True, "network": {"steps": 7, "beta": 0.5, "nm_beta": 0.4}})
    found = read_comparison(
        [file(base="base.yaml", settings__network__beta=0.6, arms__spiking__settings={"network": {"nm_beta": 0.3}})]
    )
    network = found.arms[0].config.network
    assert (network.steps, network.beta, network.nm_beta) == (3, 0.6, 0.3)
    assert found.arms[1].config.network.nm_beta == 0.4
    assert found.jobs[0].seed == 0


def test_merged_settings_are_new_and_nested():
    below, above = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}, "e": {"f": 5}}
    assert merged(below, above) == {"a": {"b": 1, "c": 4}, "d": 3, "e": {"f": 5}}
    assert below == {"a": {"b": 1, "c": 2}, "d": 3}


def test_a_sweep_is_an_arm_for_every_value(file):
    sweeps = {
        "lambda": {**SWEEP, "settings": {"train": {"meta_steps": 2}}},
        "steps": {**SWEEP, "setting": "network.steps"},
    }
    sweeps["steps"]["values"] = [1, 8]
    found = read_comparison([file(sweeps=sweeps)])
    points = found.sweeps[0].points
    assert [point.name for point in points] == ["lambda=0", "lambda=0.03"]
    assert [point.config.train.spike_weight for point in points] == [0.0, 0.03]
    assert {point.config.train.meta_steps for point in points} == {2}
    assert [point.config.network.steps for point in found.sweeps[1].points] == [1, 8]
    assert [(job.arm, job.seed) for job in found.jobs[2:]] == [(p.name, 4) for s in found.sweeps for p in s.points]


def test_a_list_is_a_value_like_any_other(file):
    sweep = {**SWEEP, "setting": "network.widths", "values": [[4, 8], [6, 8]]}
    found = read_comparison([file(sweeps={"widths": sweep})])
    assert [point.name for point in found.sweeps[0].points] == ["widths=4-8", "widths=6-8"]
    assert [point.config.network.widths for point in found.sweeps[0].points] == [(4, 8), (6, 8)]


def test_a_point_with_the_settings_of_a_run_is_that_run(file):
    steps = {**SWEEP, "setting": "network.steps", "values": [2, 3], "seeds": [0, 4]}  # the arm has 3, and seed 0
    again = {**SWEEP, "setting": "network.threshold", "values": [0.5, 0.7], "seeds": [4]}  # and a threshold of 0.5
    found = read_comparison([file(sweeps={"steps": steps, "threshold": again})])
    new = [("steps=2", 0), ("steps=2", 4), ("steps=3", 4), ("threshold=0.7", 4)]
    assert [(job.arm, job.seed) for job in found.jobs] == [("spiking", 0), ("twin", 0), *new]
    for point, seed, run in (("steps=3", 0, "spiking"), ("threshold=0.5", 4, "steps=3"), ("steps=2", 4, "steps=2")):
        assert (found.job(point, seed).arm, found.job(point, seed).seed) == (run, seed)


def test_bits_tell_the_counts_of_all_steps_apart():
    assert [bits_for(steps) for steps in (1, 3, 4, 7, 8)] == [1, 2, 3, 3, 4]
    assert all(bits_for(steps) == math.ceil(math.log2(steps + 1)) for steps in range(1, 300))


def test_the_reference_is_quantised_to_8_bits_and_to_as_many_as_spike_counts_fill(file):
    found = read_comparison([file(arms__long={"settings": {"network": {"steps": 8}}})])
    assert found.quantised_bits("twin") == (8, 4, 2)  # 0..8 are nine values, 0..3 four


def test_a_spiking_arm_that_stands_first_is_quantised_to_8_bits(file):
    found = read_comparison([file(arms__long={"settings": {"network": {"steps": 8}}})])
    assert [(arm.name, found.quantised_bits(arm.name)) for arm in found.arms if arm.spiking] == [
        ("long", (8,)),
        ("spiking", ()),
    ]
    alone = replace(found, reference=None)
    assert [alone.quantised_bits(arm.name) for arm in alone.arms] == [(), (), ()]


def test_what_is_written_is_read_as_the_same(file, tmp_path):
    found = read_comparison([file(sweeps={"lambda": SWEEP}, seeds=[2, 1])])
    path = tmp_path / "out" / "comparison.yaml"
    write_comparison_file(path, found, {"git_commit": "abc"})
    assert read_comparison([path]) == found
    of_runs = read_comparison([CONFIGS / "demo.yaml"])
    write_comparison_file(tmp_path / "runs.yaml", of_runs, {})
    assert read_comparison([tmp_path / "runs.yaml"]) == of_runs
    written = yaml.safe_load(path.read_text())
    assert written["provenance"] == {"git_commit": "abc"}
    every = to_plain(found.arms[0].config)  # so that it stays the same whatever the defaults become
    assert merged(written["settings"], found.arms[0].settings) == {
        k: every[k] for k in every if k not in ("seed", "twin")
    }


def test_devices_are_read_and_written(file, tmp_path):
    found = read_comparison([file(devices={"mine": {**DEVICE, "accumulate": "3e-12"}})])  # text, by YAML's rules
    assert found.devices == (Device(name="mine", **{**DEVICE, "accumulate": 3e-12}),)
    write_comparison_file(tmp_path / "comparison.yaml", found, {})
    assert read_comparison([tmp_path / "comparison.yaml"]) == found


def test_run_configurations_are_arms_named_after_their_files(file, tmp_path):
    one = write_yaml(tmp_path / "one.yaml", {**SETTINGS, "seed": 5, "twin": True})
    two = write_yaml(tmp_path / "two.yaml", merged(SETTINGS, {"network": {"neuron": "relu"}}))
    found = read_comparison([one, two])
    assert [(arm.name, arm.seeds) for arm in found.arms] == [("one", (5,)), ("two", (0,))]
    assert found.reference == "two"
    assert found.arms[1].config == read_config(two).__class__(**{**vars(read_config(two)), "twin": False})
    beside = read_comparison([file(), one])
    assert [arm.name for arm in beside.arms] == ["spiking", "twin", "one"]
    assert beside.arms[2].seeds == (0,)
    path = tmp_path / "out" / "comparison.yaml"
    for each in (found, beside):
        write_comparison_file(path, each, {})
        again = read_comparison([path])
        assert [(arm.name, arm.config.network) for arm in again.arms] == [
            (arm.name, arm.config.network) for arm in each.arms
        ]
        assert [job.config for job in again.jobs] == [job.config for job in each.jobs]


def test_seeds_of_the_command_hold_for_all_arms(file):
    found = read_comparison([file(arms__twin__seeds=[3], sweeps={"lambda": SWEEP})], seeds=[8, 9])
    assert {arm.seeds for arm in found.arms} == {(8, 9)}
    assert found.sweeps[0].points[0].seeds == (4,)


# --- mistakes


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"colour": "red"},
            "mine.yaml: unknown key colour; it takes title, seeds, reference, base, settings, arms, sweeps, devices.",
        ),
        ({"title": 3}, "mine.yaml: title = 3; it must be text."),
        ({"seeds": 0}, "seeds = 0; it must be a list of different whole numbers, such as [0, 1, 2]."),
        ({"seeds": []}, "seeds = []; it must be a list of different whole numbers"),
        ({"seeds": [1, 1]}, "seeds = [1, 1]; it must be a list of different whole numbers"),
        ({"seeds": [-1]}, "seeds = [-1]; it must be"),
        ({"seeds": [True]}, "seeds = [True]; it must be"),
        ({"arms": {}}, "mine.yaml: arms holds none; name at least one."),
        ({"arms": ["spiking"]}, "mine.yaml: arms = ['spiking']; it must be a section (KEY: VALUE)."),
        ({"arms__twin": 3}, "mine.yaml, arm twin = 3; it must be a section (KEY: VALUE)."),
        ({"arms__twin__network": {}}, "mine.yaml, arm twin: unknown key network; it takes title, seeds, settings."),
        ({"arms__a/b": {}}, "mine.yaml, arm a/b: a/b is to be the name of a folder; use letters, digits"),
        ({"arms__..": {}}, ".. is to be the name of a folder"),
        ({"arms": {3: {}}}, "mine.yaml, arm 3: 3 is to be the name of a folder"),
        ({"arms__Twin": {}}, "mine.yaml: Two arms are named Twin; give every arm a name of its own."),
        ({"settings__network__foo": 1}, "mine.yaml: unknown key network.foo; network takes neuron, "),
        ({"settings__seed": 1}, "mine.yaml: seed is no setting of a comparison; give seeds beside title."),
        ({"settings__twin": True}, "mine.yaml: twin is no setting of a comparison; make the conventional twin an arm"),
        ({"arms__twin__settings": {"foo": 1}}, "mine.yaml, arm twin: unknown key foo; the top level takes seed, twin,"),
        (
            {"arms__twin__settings": {"network": {"steps": "four"}}},
            "mine.yaml, arm twin: network.steps = four; it must be a whole number.",
        ),
        (
            {"arms__twin__settings": {"network": {"beta": 2}}},
            "mine.yaml, arm twin: network.beta = 2.0; it must be in [0, 1].",
        ),
        ({"reference": "rival"}, "mine.yaml: There is no arm rival to be the reference; choose from spiking, twin."),
        (
            {"reference": "spiking"},
            "mine.yaml: The reference is the arm spiking, whose network.neuron is lif; name a conventional twin, with "
            "network.neuron: relu.",
        ),
        (
            {"arms__twin__settings": {"network": {"neuron": "relu"}, "data": {"size": 16}}},
            "mine.yaml: The arms spiking and twin differ in data.size (14 and 16); make it the same for all",
        ),
        (
            {"arms__twin__settings": {"network": {"neuron": "relu"}, "meta_test": {"milestones": [5, 10]}}},
            "differ in meta_test.milestones ([2, 5, 10] and [5, 10]); make it the same for all",
        ),
        (
            {"arms__twin__settings": {"network": {"neuron": "relu"}, "export": {"classes": 2}}},
            "differ in export.classes (5 and 2); make it the same for all",
        ),
        (
            {"sweeps": {"lambda": {**SWEEP, "values": []}}},
            "mine.yaml, sweep lambda: a sweep needs an arm, a setting (SECTION.KEY) and a list of values; give all",
        ),
        (
            {"devices": {"mine": {**DEVICE, "colour": 1}}},
            "mine.yaml, device mine: unknown key colour; it takes desc",
        ),
        (
            {"devices": {"mine": {"kind": "chip"}}},
            "mine.yaml, device mine: there is no description; give desc",
        ),
        ({"devices": {"loihi": DEVICE}}, "mine.yaml, device loihi: a device of other prices is called so already;"),
        ({"devices": {"mine": {**DEVICE, "add": -1.0}}}, "device mine: Device 'mine': add = -1.0 J; give a finite"),
        ({"devices": {"mine": {**DEVICE, "kind": "x"}}}, "device mine: device.kind = x; it must be one of chip, arith"),
        ({"sweeps": {"lambda": {**SWEEP, "arm": "x"}}}, "sweep lambda: there is no arm x; choose from spiking, twin."),
        (
            {"sweeps": {"lambda": {**SWEEP, "setting": "train.lambda"}}},
            "mine.yaml, sweep lambda: unknown key train.lambda; train takes warm_steps, ",
        ),
        ({"sweeps": {"lambda": {**SWEEP, "setting": "seed"}}}, "sweep lambda: seed is no setting of a comparison"),
        ({"sweeps": {"lambda": {**SWEEP, "values": ["many"]}}}, "train.spike_weight = many; it must be a number."),
        ({"sweeps": {"lambda": {**SWEEP, "values": [0, 0]}}}, "mine.yaml: Two arms are named lambda=0; give every arm"),
        (
            {"sweeps": {"size": {**SWEEP, "setting": "data.size", "values": [14, 20]}}},
            "mine.yaml: The arms spiking and size=20 differ in data.size (14 and 20)",
        ),
        ({"base": "absent.yaml"}, "There is no configuration file "),
    ],
    ids=str,
)
def test_mistakes_in_a_comparison_file(file, changes, sentence):
    assert sentence in refusal(file(**changes))


def test_mistakes_of_several_files(file, tmp_path):
    first, second = file(), write_yaml(tmp_path / "other.yaml", COMPARISON)
    assert "mine.yaml and " in refusal(first, second)
    assert refusal(first, second).endswith("other.yaml are both comparison files; put their arms into one.")
    assert refusal(first, first) == "A file was named twice; name each once."
    no_arms = write_yaml(tmp_path / "no_arms.yaml", {"seeds": [0], "arm": {"spiking": {}}})
    assert "no_arms.yaml: unknown key arm; it takes title, seeds, reference, base, settings, arms" in refusal(no_arms)
    far = write_yaml(tmp_path / "far.yaml", merged(SETTINGS, {"data": {"size": 20}}))
    assert "The arms spiking and far differ in data.size (14 and 20)" in refusal(first, far)
    assert "my run is to be the name of a folder" in refusal(write_yaml(tmp_path / "my run.yaml", SETTINGS))
    assert "--seeds: seeds = [1, 1]; it must be" in refusal(first, seeds=[1, 1])
