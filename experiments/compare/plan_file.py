"""Comparison files: read strictly, and written with everything resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from converters.energy import DEVICES, Device
from experiments.compare.plan import Arm, Comparison, Sweep
from experiments.config_file import PROVENANCE, check_keys, config_of, one_sentence, read_yaml, with_defaults
from experiments.run_folder import to_plain
from snn_anml.errors import UserError
from snn_anml.files import write_text

KEYS = ("title", "seeds", "reference", "base", "settings", "arms", "sweeps", "devices", PROVENANCE)
ARM_KEYS = ("title", "seeds", "settings")
DEVICE_KEYS = tuple(field.name for field in fields(Device) if field.name != "name")
SWEEP_KEYS = ("title", "setting", "values", "arm", "seeds", "settings")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,99}")
_OF_RUNS = {"seed": "give seeds beside title", "twin": "make the conventional twin an arm of its own"}


def read_comparison(paths: Sequence[Path], seeds: Sequence[int] = ()) -> Comparison:
    """Reads comparison files and run configurations.

    Args:
        paths: at most one comparison file, and any number of run configurations, each an arm named after its file.
        seeds: of all arms, points of sweeps left out, instead of those in the files.

    Raises:
        UserError: a file that cannot be read, an unknown key or setting, a value of the wrong kind, or what
            `Comparison` refuses.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("A file was named twice; name each once.")
    found = {path: read_yaml(path) for path in paths}
    of_arms = [path for path, content in found.items() if ({*KEYS} - {PROVENANCE}) & {*content}]
    if len(of_arms) > 1:
        raise UserError(f"{of_arms[0]} and {of_arms[1]} are both comparison files; put their arms into one.")
    comparison = _comparison(of_arms[0], found[of_arms[0]]) if of_arms else None
    alone = tuple(_alone(path, comparison) for path in paths if path not in of_arms)
    try:
        if comparison is None:
            title = "Comparison of " + ", ".join(arm.title for arm in alone)
            comparison = Comparison(title, alone[0].seeds, _conventional(alone), alone, (), {})
        elif alone:
            comparison = replace(comparison, arms=(*comparison.arms, *alone))
    except UserError as error:
        raise UserError(f"{', '.join(map(str, paths))}: {one_sentence(error)}") from None
    if not seeds:
        return comparison
    chosen = _seeds({"seeds": list(seeds)}, "--seeds", ())
    return replace(comparison, seeds=chosen, arms=tuple(replace(arm, seeds=chosen) for arm in comparison.arms))


def write_comparison_file(path: Path, comparison: Comparison, provenance: Mapping[str, Any]) -> None:
    """Writes what `read_comparison` reads as the same comparison."""
    plain: dict[str, Any] = {
        "title": comparison.title,
        "seeds": list(comparison.seeds),
        "reference": comparison.reference,
        "settings": comparison.settings,
        "arms": {
            arm.name: {"title": arm.title, "seeds": list(arm.seeds), "settings": arm.settings}
            for arm in comparison.arms
        },
        "sweeps": {
            sweep.name: {
                "title": sweep.title,
                "setting": sweep.setting,
                "values": [point.value for point in sweep.points],
                "arm": sweep.arm,
                "seeds": list(sweep.points[0].seeds),
                "settings": sweep.settings,
            }
            for sweep in comparison.sweeps
        },
        "devices": {
            device.name: {key: value for key, value in asdict(device).items() if key != "name"}
            for device in comparison.devices
        },
        PROVENANCE: dict(provenance),
    }
    for optional in ("reference", "sweeps", "devices"):
        if not plain[optional]:
            del plain[optional]
    write_text(path, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, those of `above` where both have one."""
    both = dict(below)
    for key, value in above.items():
        inside = both.get(key)
        both[key] = merged(inside, value) if isinstance(value, Mapping) and isinstance(inside, Mapping) else value
    return both


def _comparison(path: Path, content: dict[Any, Any]) -> Comparison:
    where = str(path)
    _check_known(content, KEYS, where)
    title = _text(content, "title", where, path.stem)
    seeds = _seeds(content, where, (0,))
    settings = _resolved(merged(_base(path, content), _settings(content, where)), where)
    named = _section(content, "arms", where)
    if not named:
        raise UserError(f"{where}: arms holds none; name at least one.")
    arms = tuple(_arm(name, named[name], settings, seeds, f"{where}, arm {name}") for name in named)
    sections = _section(content, "sweeps", where)
    sweeps = tuple(_sweep(name, sections[name], settings, seeds, arms, f"{where}, sweep {name}") for name in sections)
    reference = _text(content, "reference", where, _conventional(arms))
    priced = _section(content, "devices", where)
    devices = tuple(_device(name, priced[name], f"{where}, device {name}") for name in priced)
    try:
        return Comparison(title, seeds, reference, arms, sweeps, settings, devices)
    except UserError as error:
        raise UserError(f"{where}: {one_sentence(error)}") from None


def _resolved(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Every setting, those left out at their defaults: a comparison that was written is the same under others."""
    return {key: value for key, value in with_defaults(settings, where).items() if key not in _OF_RUNS}


def _base(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run configuration that a comparison starts from, those of runs alone left out."""
    base = _text(content, "base", str(path), None)
    if base is None:
        return {}
    found = read_yaml(path.parent / base)
    check_keys(found, str(path.parent / base))
    return {key: value for key, value in found.items() if key not in (*_OF_RUNS, PROVENANCE)}


def _arm(name: Any, content: Any, shared: Mapping[str, Any], seeds: tuple[int, ...], where: str) -> Arm:
    _check_name(name, where)
    content = {} if content is None else content  # as in `twin:`, an arm of the shared settings
    _check_section(content, where)
    _check_known(content, ARM_KEYS, where)
    settings = _settings(content, where)
    config = config_of(merged(shared, settings) | {"twin": False}, where)
    return Arm(name, _text(content, "title", where, name), _seeds(content, where, seeds), config, settings)


def _alone(path: Path, comparison: Comparison | None) -> Arm:
    """The arm of a run configuration, with the seed of the file where no comparison gives others."""
    _check_name(path.stem, str(path))
    config = config_of(read_yaml(path) | {"twin": False}, str(path))
    settings = {key: value for key, value in to_plain(config).items() if key not in _OF_RUNS}
    return Arm(path.stem, path.stem, comparison.seeds if comparison else (config.seed,), config, settings)


def _sweep(
    name: Any, content: Any, shared: Mapping[str, Any], seeds: tuple[int, ...], arms: Sequence[Arm], where: str
) -> Sweep:
    _check_name(name, where)
    _check_section(content, where)
    _check_known(content, SWEEP_KEYS, where)
    setting, of = _text(content, "setting", where, None), _text(content, "arm", where, None)
    values = content.get("values")
    if setting is None or of is None or not isinstance(values, list) or not values:
        raise UserError(f"{where}: a sweep needs an arm, a setting (SECTION.KEY) and a list of values; give all three.")
    swept = next((arm for arm in arms if arm.name == of), None)
    if swept is None:
        raise UserError(f"{where}: there is no arm {of}; choose from {', '.join(arm.name for arm in arms)}.")
    settings, own_seeds = _settings(content, where), _seeds(content, where, seeds)
    title = _text(content, "title", where, setting)
    points = []
    for value in values:
        nested = value
        for key in reversed(setting.split(".")):
            nested = {key: nested}
        point = f"{name}={_shown(value)}"
        _check_name(point, where)
        of_point = merged(settings, nested)
        _check_settings(of_point, where)
        config = config_of(merged(merged(shared, swept.settings), of_point) | {"twin": False}, where)
        points.append(Arm(point, f"{title} = {_shown(value)}", own_seeds, config, of_point, value))
    return Sweep(name, title, setting, of, tuple(points), settings)


def _device(name: Any, content: Any, where: str) -> Device:
    _check_section(content, where)
    _check_known(content, DEVICE_KEYS, where)
    if missing := [key for key in DEVICE_KEYS if key not in content]:
        raise UserError(f"{where}: there is no {missing[0]}; give {', '.join(DEVICE_KEYS)}.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--device", type=Device)
    try:
        made = parser.instantiate(parser.parse_object({"device": {**content, "name": name}})).device
    except (ArgumentError, TypeError, UserError) as error:
        raise UserError(f"{where}: {one_sentence(error)}") from None
    if DEVICES.get(name, made) != made:
        raise UserError(f"{where}: a device of other prices is called so already; choose another name.")
    return made


def _conventional(arms: Sequence[Arm]) -> str | None:
    """The first arm that can be the reference."""
    networks = [(arm.name, arm.config.network) for arm in arms]
    return next((name for name, one in networks if (one.neuron, one.layers) == ("relu", "strided")), None)


def _shown(value: Any) -> str:
    """A value as a part of a file name."""
    return "-".join(map(_shown, value)) if isinstance(value, list) else str(value)


def _settings(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    settings = _section(content, "settings", where)
    _check_settings(settings, where)
    return settings


def _check_settings(settings: Mapping[str, Any], where: str) -> None:
    for key, remedy in _OF_RUNS.items():
        if key in settings:
            raise UserError(f"{where}: {key} is no setting of a comparison; {remedy}.")
    check_keys(settings, where)


def _check_known(content: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    for key in content:
        if key not in known:
            takes = ", ".join(one for one in known if one != PROVENANCE)
            raise UserError(f"{where}: unknown key {key}; it takes {takes}.")


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"{where}: {name} is to be the name of a folder; use letters, digits and . _ + = - and begin with one of "
            "the former (a number in quotes)."
        )


def _check_section(content: Any, where: str) -> None:
    if not isinstance(content, dict):
        raise UserError(f"{where} = {content}; it must be a section (KEY: VALUE).")


def _section(content: Mapping[str, Any], key: str, where: str) -> dict[Any, Any]:
    found = content.get(key, {})
    _check_section(found, f"{where}: {key}")
    return found


def _text(content: Mapping[str, Any], key: str, where: str, otherwise: Any) -> Any:
    found = content.get(key, otherwise)
    if key in content and not isinstance(found, str):
        raise UserError(f"{where}: {key} = {found}; it must be text.")
    return found


def _seeds(content: Mapping[str, Any], where: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    found = content.get("seeds", list(otherwise))
    whole = isinstance(found, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in found)
    if not whole or not found or len(set(found)) < len(found) or min(found) < 0 or max(found) >= 2**31:
        raise UserError(f"{where}: seeds = {found}; it must be a list of different whole numbers, such as [0, 1, 2].")
    return tuple(found)
