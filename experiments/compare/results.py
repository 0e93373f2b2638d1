"""Everything that a report is made of: the plan of a comparison, and its long tables as far as they are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from experiments.compare.folder import FLOAT, CompareFolder
from experiments.compare.long_tables import TABLES, Rows, read_table
from experiments.compare.plan import Comparison, Sweep
from experiments.compare.plan_file import read_comparison
from experiments.compare.statistics import Interval, bootstrap
from experiments.config_file import PROVENANCE, read_yaml
from snn_anml.errors import UserError


class Arm(NamedTuple):
    """A row of the comparison: one way of training (`name`, `title`) in one form (`float32`, `int8`, `int3`)."""

    name: str
    title: str
    spiking: bool
    form: str = FLOAT

    @property
    def label(self) -> str:
        """As it is printed."""
        return self.title if self.form == FLOAT else f"{self.title}, {self.form}"


@dataclass(frozen=True, eq=False)
class Results:
    """What is compared, and the numbers.

    Attributes:
        folder: of the comparison.
        title: its title.
        arms: in the order shown, quantised forms behind the arm that they are of; points of sweeps are not among them.
        reference: name of the arm that is the conventional twin, or None.
        dataset: that all arms learn.
        head: that is exported with the first arm, whose joules are those of the page.
        sweeps: in the order shown.
        tables: long tables by name, those of `TABLES`; a missing one is empty, with its columns.
        missing: parts of the plan of which there are no numbers, in words.
        provenance: of comparison.yaml.
    """

    folder: CompareFolder
    title: str
    arms: tuple[Arm, ...]
    reference: str | None
    dataset: str
    head: str
    sweeps: tuple[Sweep, ...]
    tables: Mapping[str, Rows]
    missing: tuple[str, ...]
    provenance: Mapping[str, Any]

    @property
    def twin(self) -> Arm | None:
        """The reference arm in float32."""
        return next((arm for arm in self.arms if (arm.name, arm.form) == (self.reference, FLOAT)), None)

    @property
    def main(self) -> Arm:
        """The arm that stands first: the one that claims are about."""
        return self.arms[0]

    def rows(self, table: str, arm: Arm | str, **where: Any) -> Rows:
        """The rows of an arm (in float32 where only its name is given) with these values in these columns."""
        rows = self.tables[table]
        name, form = (arm.name, arm.form) if isinstance(arm, Arm) else (arm, FLOAT)
        chosen = (rows["arm"] == name) & (rows["form"] == form)
        for column, value in where.items():
            chosen &= rows[column] == value
        return rows[chosen]

    def interval(self, table: str, arm: Arm | str, value: str, **where: Any) -> Interval | None:
        """Mean and interval over seeds x draws of a column; None without rows."""
        return interval_of(self.rows(table, arm, **where), value)

    def seen(self, table: str, column: str) -> list[Any]:
        """The different values of a column among the arms shown, in the order of the rows."""
        rows = self.tables[table]
        return list(dict.fromkeys(rows[rows["arm"].isin([arm.name for arm in self.arms])][column]))


def groups(rows: Rows, value: str) -> list[np.ndarray]:
    """A column by seed, one array for each."""
    return [group[value].to_numpy(np.float64) for _, group in rows.groupby("seed", sort=True)]


def interval_of(rows: Rows, value: str) -> Interval | None:
    """Mean and interval of a column over seeds x draws; None without rows."""
    return bootstrap(groups(rows, value)) if len(rows) else None


def read_results(where: CompareFolder) -> Results:
    """Reads the folder of a comparison; what is not there yet is named in `missing`.

    Raises:
        UserError: no comparison in the folder, or a damaged file.
    """
    if not where.comparison.is_file():
        raise UserError(f"{where.path} holds no comparison (no comparison.yaml); make one with snn-anml compare.")
    plan = read_comparison([where.comparison])
    tables = {name: read_table(where.table(name), columns) for name, columns in TABLES.items()}
    arms = tuple(
        Arm(arm.name, arm.title, arm.spiking, form)
        for arm in plan.arms
        for form in (FLOAT, *(f"int{bits}" for bits in plan.quantised_bits(arm.name)))
    )
    return Results(
        where,
        plan.title,
        arms,
        plan.reference,
        plan.arms[0].config.data.name,
        plan.arms[0].config.export.head,
        plan.sweeps,
        tables,
        tuple(_missing(where, plan, arms, tables)),
        read_yaml(where.comparison).get(PROVENANCE) or {},
    )


def _missing(folder: CompareFolder, plan: Comparison, arms: Sequence[Arm], tables: Mapping[str, Rows]) -> Iterator[str]:
    points = [Arm(point.name, point.title, point.spiking) for sweep in plan.sweeps for point in sweep.points]
    planned = {arm.name: arm for arm in plan.every_arm}
    wanted = [(arm, seed) for arm in (*arms, *points) for seed in planned[arm.name].seeds]
    for table in ("accuracy", "energy"):
        rows, absent = tables[table], {}
        there = set(zip(rows["arm"], rows["form"], rows["seed"].astype(int), strict=True))
        for arm, seed in wanted:
            if (arm.name, arm.form, seed) not in there:
                absent.setdefault(arm, []).append(seed)
        said: dict[str, list[str]] = {}
        for arm, seeds in absent.items():
            every = len(seeds) == len(planned[arm.name].seeds)
            which = "any seed" if every else f"seed {', '.join(map(str, seeds))}"
            said.setdefault(which, []).append(f"“{arm.label}”")
        yield from (f"{table} of {which} of {', '.join(labels)}" for which, labels in said.items())
        # Where there is no accuracy there is no energy either, and published layers have no form on a simulator.
        wanted = [
            (arm, seed)
            for arm, seed in wanted
            if seed not in absent.get(arm, ()) and planned[arm.name].config.network.layers != "published"
        ]
    beside = plan.reference is not None and len(plan.arms) > 1
    pointless = set() if beside else {"sensitivity", "break_even"}
    if not any(arm.spiking for arm in plan.every_arm):
        pointless |= {"activity", "fidelity", "break_even"}
    yield from (f"results/{name}.csv" for name in TABLES if name not in pointless and not folder.table(name).is_file())
