"""What is compared: arms, their seeds, and sweeps of one setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from converters.energy import DEVICES, Device, register
from experiments.run_folder import first_difference, to_plain
from snn_anml.config import RunConfig
from snn_anml.errors import UserError

QUANTISED_BITS = 8
"""Of the quantised form of the first arm and of the first one of the reference, which has one more with as many bits as
tell the counts of T steps apart."""


def bits_for(steps: int) -> int:
    """ceil(log2(T + 1)): bits that tell as many values apart as T steps tell spike counts (arXiv 2409.08290)."""
    return steps.bit_length()


@dataclass(frozen=True)
class Job:
    """One run: an arm with one seed. config: all of its settings, the seed among them."""

    arm: str
    seed: int
    config: RunConfig

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed}"


@dataclass(frozen=True)
class Arm:
    """One network and its training.

    Attributes:
        name: in tables, and of its folder.
        title: shown in reports.
        seeds: a run each.
        config: of all of them, but for the seed.
        settings: what was set for this arm, nested; beside it, the shared settings hold.
        value: of the setting that is swept, for a point of a sweep.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    config: RunConfig
    settings: Mapping[str, Any]
    value: Any = None

    @property
    def spiking(self) -> bool:
        return self.config.network.neuron == "lif"

    def job(self, seed: int) -> Job:
        """The run with this seed."""
        return Job(self.name, seed, replace(self.config, seed=seed))


@dataclass(frozen=True)
class Sweep:
    """One setting of one arm over several values.

    Attributes:
        name: begins the names of its points, as in `lambda=0.03`.
        title: shown in reports.
        setting: dotted, as in `train.spike_weight`.
        arm: whose setting it is.
        points: an arm for every value, in the order given.
        settings: what was set for all points beside the arm's own, nested.
    """

    name: str
    title: str
    setting: str
    arm: str
    points: tuple[Arm, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Arms side by side.

    Attributes:
        title: of the report.
        seeds: of arms that say nothing else.
        reference: name of the arm that is the conventional twin, whose quantised forms are comparators too; or None.
        arms: in the order shown.
        sweeps: in the order shown.
        settings: of all arms, nested, with those that nothing was said of; `arms` hold what follows from them.
        devices: whose prices stand beside those of `converters.energy.DEVICES`.

    Raises:
        UserError: a reference that is no conventional arm, an arm named twice, or arms that differ in what is compared.
    """

    title: str
    seeds: tuple[int, ...]
    reference: str | None
    arms: tuple[Arm, ...]
    sweeps: tuple[Sweep, ...]
    settings: Mapping[str, Any] = field(compare=False)
    devices: tuple[Device, ...] = ()

    def __post_init__(self) -> None:
        names = [arm.name.casefold() for arm in self.every_arm]  # some file systems do not tell the case apart
        for arm in self.every_arm:
            if names.count(arm.name.casefold()) > 1:
                raise UserError(f"Two arms are named {arm.name}; give every arm a name of its own.")
        self._check_reference()
        first = self.arms[0]
        for arm in self.every_arm[1:]:
            if (different := first_difference(_shared(first.config), _shared(arm.config))) is not None:
                key, there, here = different
                raise UserError(
                    f"The arms {first.name} and {arm.name} differ in {key} ({there} and {here}); "
                    "make it the same for all, since they are compared draw by draw and drawing by drawing."
                )

    def _check_reference(self) -> None:
        if self.reference is None:
            return
        arms = {arm.name: arm for arm in self.arms}
        if self.reference not in arms:
            raise UserError(f"There is no arm {self.reference} to be the reference; choose from {', '.join(arms)}.")
        network = arms[self.reference].config.network
        for key, value, wanted in (("neuron", network.neuron, "relu"), ("layers", network.layers, "strided")):
            if value != wanted:
                raise UserError(
                    f"The reference is the arm {self.reference}, whose network.{key} is {value}; "
                    f"name a conventional twin, with network.{key}: {wanted}."
                )

    @property
    def every_arm(self) -> tuple[Arm, ...]:
        """The arms, and the points of all sweeps."""
        return (*self.arms, *(point for sweep in self.sweeps for point in sweep.points))

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All runs: first every arm with its first seed, so that there is soon something to see; sweeps last."""
        return tuple(job for key, job in self._runs.items() if key == (job.arm, job.seed))

    def job(self, arm: str, seed: int) -> Job:
        """The run of an arm and seed; a point of a sweep with all the settings of a run before it is that run."""
        return self._runs[arm, seed]

    @cached_property
    def _runs(self) -> dict[tuple[str, int], Job]:
        rounds = max(len(arm.seeds) for arm in self.arms)
        arms = [arm.job(arm.seeds[i]) for i in range(rounds) for arm in self.arms if i < len(arm.seeds)]
        points = [point.job(seed) for sweep in self.sweeps for point in sweep.points for seed in point.seeds]
        runs = {(job.arm, job.seed): job for job in arms}
        for job in points:
            runs[job.arm, job.seed] = next((run for run in runs.values() if run.config == job.config), job)
        return runs

    def register_devices(self) -> None:
        """Makes the devices known to this process."""
        for device in self.devices:
            if device.name not in DEVICES:
                register(device)

    def quantised_bits(self, arm: str) -> tuple[int, ...]:
        """Bits of the quantised forms of an arm: of the reference 8, and ceil(log2(T + 1)) for every T compared.

        The counts 0 to T of a spiking neuron are T + 1 values, and so fill that many bits. A network of one bit, or of
        more than 8, is no comparator of ours. Beside a reference the first arm has a form of 8 bits where it spikes, so
        that there are integers on both sides.
        """
        if self.reference is None:
            return ()
        if arm != self.reference:
            first = self.arms[0]
            return (QUANTISED_BITS,) if first.spiking and arm == first.name else ()
        counted = {bits_for(one.config.network.steps) for one in self.arms if one.spiking}
        return (QUANTISED_BITS, *sorted(counted & set(range(2, QUANTISED_BITS)), reverse=True))


def _shared(config: RunConfig) -> dict[str, Any]:
    """What accuracies and energies need to have in common to be compared."""
    plain = to_plain(config)
    keys = {"meta_test": ("milestones", "shots"), "export": ("head", "classes", "samples")}
    return {"data": plain["data"]} | {
        section: {key: plain[section][key] for key in names} for section, names in keys.items()
    }
