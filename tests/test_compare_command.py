"""The options of `snn-anml compare`: what is refused before anything runs, and how much runs at once."""

import copy
import sys

import pytest
import torch

from experiments.compare import command
from experiments.compare.child import Task
from experiments.compare.executors import Cluster, parse_parameters
from snn_anml.errors import UserError
from tests.cli_helpers import contents, refused, write_yaml
from tests.compare_helpers import COMPARISON

for package in command.OF_REPORT:
    pytest.importorskip(package, reason="the extra report is not installed")

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return write_yaml(tmp_path_factory.mktemp("plan") / "small.yaml", COMPARISON)


def test_an_arm_that_asks_for_too_much_is_named(tmp_path):
    content = copy.deepcopy(COMPARISON)
    content["arms"]["wide"] = {"settings": {"meta": {"classes": 60}}}
    said = refused("compare", write_yaml(tmp_path / "plan.yaml", content), "--out", tmp_path / "out")
    assert said.startswith("Arm wide: meta.classes = 60, but there are only 36 meta-training classes; lower it.")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--jobs", "0"], "--jobs = 0; it must be at least 1."),
        (["--threads", "0"], "--threads = 0; it must be at least 1."),
        (["--slurm", "partition=gpu"], "--slurm is for jobs on a cluster; give --executor submitit too."),
        (["--executor", "submitit", "--slurm", "gpu"], "--slurm gpu; give KEY=VALUE, such as partition=gpu."),
        (["--executor", "threads"], "executor = threads; it must be one of processes, submitit."),
        (["--device", "tpu"], "Unknown device 'tpu'; use cpu or cuda."),
        (["--executor", "submitit", "--device", "tpu"], "Unknown device 'tpu'; use cpu or cuda."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_in_options(plan, tmp_path, options, sentence):
    assert refused("compare", plan, "--out", tmp_path / "out", *options).endswith(sentence)
    assert not (tmp_path / "out").exists()


def test_nothing_to_go_on_with(tmp_path):
    assert refused("compare") == "FILE must be given, or --out with a comparison to go on with; --help says how."
    assert refused("compare", "--out", tmp_path) == (
        f"{tmp_path} holds no comparison to go on with; name a comparison file or configurations."
    )


def test_the_packages_of_the_report_are_missed_at_once(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert "The report needs packages that are not installed" in refused("compare", plan, "--out", tmp_path / "out")


# --- as many at once as there is room for


def test_runs_at_once(monkeypatch):
    monkeypatch.setattr(command, "cores", lambda: 8)
    assert command.Options().at_once(20) == 8
    assert command.Options(threads=3).at_once(20) == 2
    assert command.Options(threads=16).at_once(20) == 1
    assert command.Options(jobs=3).at_once(20) == 3
    assert command.Options(jobs=3).at_once(2) == 2
    assert command.Options(device="cuda").at_once(20) == 1
    assert command.Options(device="cuda", jobs=4).at_once(20) == 4
    assert command.Options(executor="submitit").at_once(20) == 20
    assert command.Options(executor="submitit", jobs=5).at_once(20) == 5
    assert command.Options(executor="submitit").at_once(0) == 0


# --- a cluster


def test_parameters_of_a_cluster():
    assert parse_parameters(["partition=gpu", "timeout_min=60", "mem_gb=8", "qos=a=b"]) == {
        "slurm_partition": "gpu",
        "timeout_min": 60,
        "mem_gb": 8,
        "slurm_qos": "a=b",
    }


def test_a_parameter_that_submitit_does_not_know(tmp_path):
    pytest.importorskip("submitit", reason="the extra cluster is not installed")
    with pytest.raises(UserError, match="--slurm slurm_colour: "):
        Cluster(tmp_path, {"slurm_colour": "red"}, 1, "local")


def test_a_job_that_the_cluster_refuses(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit", reason="the extra cluster is not installed")

    def refuse(self, *given):
        raise submitit.core.utils.FailedJobError("sbatch: error: invalid partition specified: any\nsbatch: error: ...")

    cluster = Cluster(tmp_path, {}, 1, "local")
    monkeypatch.setattr(submitit.AutoExecutor, "submit", refuse)
    with pytest.raises(UserError, match=r"refuses the job \(sbatch: error: invalid partition specified: any\); mend"):
        cluster.start(Task(str(tmp_path), "log", "cpu", 1, 1))


def test_the_extra_for_clusters_is_named(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    said = refused("compare", plan, "--out", tmp_path / "out", "--executor", "submitit")
    assert said == (
        "--executor submitit needs packages that are not installed; install them with: pip install 'snn-anml[cluster]'."
    )


@pytest.mark.parametrize(("given", "gpus"), [((), 1), (("gpus_per_node=4",), 4)])
def test_jobs_on_a_gpu_ask_for_one_and_the_machine_that_submits_needs_none(plan, tmp_path, monkeypatch, given, gpus):
    asked = []

    class Full:
        def __init__(self, folder, parameters, threads):
            asked.append(parameters)

        def start(self, task):
            raise UserError(f"No room for {task.device}.")

    monkeypatch.setattr(command, "Cluster", Full)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = "--executor", "submitit", "--device", "cuda", "--slurm", "partition=gpu", *given
    assert refused("compare", plan, "--out", tmp_path / "out", *options) == "No room for cuda."
    assert asked == [{"slurm_partition": "gpu", "gpus_per_node": gpus}]


def test_a_run_is_no_place_for_a_comparison(run, plan):
    before = contents(run)
    for options in ([], ["--report-only"]):
        assert refused("compare", plan, "--out", run, *options) == (
            f"{run} holds a run and no comparison; choose another --out."
        )
    assert contents(run) == before
