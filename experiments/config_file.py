"""Configuration files and options: read into a `RunConfig`, and in one sentence what is wrong with them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from jsonargparse import (
    SUPPRESS,
    ActionConfigFile,  # pyright: ignore[reportPrivateImportUsage] - public by its documentation
    ArgumentError,
    ArgumentParser,
    Namespace,
)

from snn_anml.config import RunConfig
from snn_anml.errors import UserError

PROVENANCE = "provenance"
"""Key of a finished run's config.yaml that is no setting, so that the file can be used as `--config` again."""

_TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "text",
    "<class 'tuple'>": "a list, such as [a, b]",
}


def _wrong_type(match: re.Match[str]) -> str:
    choices = re.findall(r"'([^']*)'", match["type"]) if "Literal" in match["type"] else []
    kind = f"one of {', '.join(choices)}" if choices else _TYPES.get(match["type"], match["type"])
    return f"{match['key']} = {match['value']}; it must be {kind}"


def _unknown_command(match: re.Match[str]) -> str:
    return f"There is no command {match['name']!r}; choose from {match['choices'].replace(chr(39), '')}"


def _missing(match: re.Match[str]) -> str:
    names = [name.rsplit(".", 1)[-1].upper() for name in match["names"].split(", ")]
    return f"{' and '.join(names)} must be given; --help says how"


# What the parser says (any run of white space as one blank, no full stop), and how to say it to its user.
_PLAINER: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (
        r'Parser key "(?P<key>[^"]+)"(?: element \d+)?: Expected an? (?P<type>.+?)\. Got value: (?P<value>.*)',
        _wrong_type,
    ),
    (
        r'Parser key "(?P<key>[^"]+)": Unable to load config .*',
        lambda match: f"{match['key']} is a section of settings; give single ones, as --{match['key']}.KEY VALUE",
    ),
    (r"argument (subcommand|action): invalid choice: '(?P<name>.*)' \(choose from (?P<choices>.*)\)", _unknown_command),
    (
        r'expected ".*" to be one of \{.*\}, but it was not provided',
        lambda match: "No command was given; --help names those there are",
    ),
    (r"the following arguments are required: (?P<names>.*)", _missing),
    (
        r"unrecognized arguments: (?P<what>.*)",
        lambda match: f"Unknown option {match['what']}; --help names all of them",
    ),
)


class ConfigFile(ActionConfigFile):
    """`--config FILE`: checked on its own before the other options, so that a message can name the file."""

    def __call__(self, parser: ArgumentParser, cfg: Namespace, values: Any, option_string: str | None = None) -> None:
        path = Path(values)
        _parse(read_yaml(path, "name one, or leave --config out"), str(path))
        super().__call__(parser, cfg, values, option_string)


def add_config(parser: ArgumentParser) -> None:
    """Gives a parser every option of `RunConfig`, and lets it read the configuration file of a finished run."""
    parser.add_class_arguments(RunConfig)
    parser.add_argument(f"--{PROVENANCE}", type=dict, default=None, help=SUPPRESS)
    sections = _sections(RunConfig)
    for action in parser._actions:
        if str(action.metavar).startswith("[ITEM"):
            action.metavar = "'[A, B, ...]'"
        if action.dest in sections:  # a whole section as one option: of use in files only
            action.help = SUPPRESS


def check_given(parsed: Namespace) -> None:
    """Raises `UserError` for an empty setting (`--data '{size: null}'`), which the parser takes for not given."""
    names = {f.name for f in fields(RunConfig)}
    for key, value in parsed.items():
        if value is None and key.split(".")[0] in names:
            raise UserError(_empty(key))


def _empty(key: str) -> str:
    return f"{key} is empty; give it a value, or leave it out."


def parsed_config(parsed: Namespace) -> RunConfig:
    """The checked configuration from what a parser with `add_config` has parsed and instantiated."""
    return RunConfig(**{f.name: parsed[f.name] for f in fields(RunConfig)})


def read_config(path: Path) -> RunConfig:
    """Reads a configuration file; the `provenance` of a finished run's is left out.

    Raises:
        UserError: no file, no YAML, an unknown key, or a value of the wrong kind or out of its range.
    """
    return config_of(read_yaml(path), str(path))


def config_of(settings: Mapping[str, Any], where: str) -> RunConfig:
    """The configuration of nested settings; `UserError` as `read_config`, beginning with `where` they stand."""
    parser, parsed = _parse(settings, where)
    try:
        return parsed_config(parser.instantiate(parsed))
    except UserError as error:
        raise UserError(f"{where}: {one_sentence(error)}") from None


def with_defaults(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Every setting as JSON-able data, those left out at their defaults; ranges are not checked."""
    _, parsed = _parse(settings, where)
    plain = json.loads(json.dumps(parsed.as_dict()))
    return {key: value for key, value in plain.items() if key != PROVENANCE}


def _parse(settings: Mapping[str, Any], where: str) -> tuple[ArgumentParser, Namespace]:
    """Settings with their types checked, but not yet their ranges: other options may mend those."""
    check_keys(settings, where)
    parser = ArgumentParser(exit_on_error=False)
    add_config(parser)
    try:
        return parser, parser.parse_object(dict(settings))
    except (ArgumentError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{where}: {one_sentence(error)}") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML would drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} stands there twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, remedy: str = "name another") -> dict[str, Any]:
    """The settings of a YAML file, not checked; `UserError` for anything else, or no file (with that remedy)."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"There is no configuration file {path}; {remedy}.") from None
    except OSError as error:
        raise UserError(f"The configuration file {path} cannot be read ({error.strerror}); name another.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8; a configuration is a YAML file.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise UserError(f"{where}: no YAML, {error.problem or error.context}; correct it.") from None
    except yaml.YAMLError:
        raise UserError(f"{path} holds characters that YAML does not allow; a configuration is a YAML file.") from None
    if not isinstance(found, dict):
        kind = "is empty" if found is None else f"holds a {type(found).__name__}"
        raise UserError(f"{path} {kind} where settings (KEY: VALUE) must be, such as seed: 0.")
    return found


def check_keys(found: Mapping[Any, Any], where: str, kind: type = RunConfig, prefix: str = "") -> None:
    """Raises `UserError` for a setting that a configuration does not have, or one without a value."""
    sections = _sections(kind)
    known = [f.name for f in fields(kind)]
    if "arms" in found and not prefix:
        raise UserError(f"{where} is a comparison; give it to snn-anml compare.")
    for key, value in found.items():
        if key == PROVENANCE and not prefix:
            continue
        if key not in known:
            among = f"{prefix.rstrip('.') or 'the top level'} takes {', '.join(known)}"
            raise UserError(f"{where}: unknown key {prefix}{key}; {among}.")
        if value is None:
            raise UserError(f"{where}: {_empty(prefix + key)}")
        if key in sections:
            if not isinstance(value, dict):
                raise UserError(f"{where}: {prefix}{key} = {value}; it must be a section of settings (KEY: VALUE).")
            check_keys(value, where, sections[key], f"{prefix}{key}.")


def _sections(kind: type) -> dict[str, type]:
    """The fields of a configuration that are configurations themselves."""
    return {name: hint for name, hint in get_type_hints(kind).items() if is_dataclass(hint)}  # type: ignore[misc]


def one_sentence(error: BaseException) -> str:
    """The message of an error on one line, ending in one full stop; what the parser says in plainer words."""
    text = " ".join(str(error).split()).rstrip(".")
    for pattern, plainer in _PLAINER:
        if match := re.fullmatch(pattern, text):
            return plainer(match) + "."
    return text + "."
