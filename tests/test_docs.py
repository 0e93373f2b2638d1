"""The documentation: it builds strictly, its examples run, and what it names is there."""

from __future__ import annotations

import ast
import html
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

import converters
from converters import energy, graph_builder
from snn_anml.config import NetworkConfig, RunConfig
from snn_anml.data import DATASETS
from snn_anml.model_io import save_model
from snn_anml.networks import ANML
from tests.helpers import require

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
NAMED_TEST = re.compile(r"(test_\w+\.py)::(test_\w+)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, or a skip where mkdocs is not installed."""
    missing = [m for m in ("mkdocs", "material", "mkdocstrings_handlers") if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f"the site needs {', '.join(missing)} (extra: docs)")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_is_built(site):
    for page in PAGES:
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file(), name_of(page)
    assert not list(site.rglob("*.py"))


def test_the_site_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)", text)
        loaded += re.findall(r"<link[^>]*rel=\"(?:stylesheet|preconnect|icon)\"[^>]*href=\"([^\"]+)", text)
        assert loaded, page.name
        assert not [url for url in loaded if url.startswith(("http:", "https:", "//"))], page.name


def keys(config, prefix=""):
    """Every key of a configuration, dotted."""
    for field in fields(config):
        value = getattr(config, field.name)
        yield from keys(value, f"{field.name}.") if is_dataclass(value) else [prefix + field.name]


def test_every_key_of_the_configuration_is_explained(site):
    page = (site / "configuration.html").read_text(encoding="utf-8")
    names = list(keys(RunConfig()))
    assert len(names) > 40
    rows = {key: re.search(rf"<td><code>{re.escape(key)}</code></td>(.*?)</tr>", page, re.S) for key in names}
    assert [key for key, row in rows.items() if row is None] == []
    for key, row in rows.items():
        meaning = re.findall(r"<td>(.*?)</td>", row[1], re.S)[-1]
        assert len(meaning) > 8, key


def test_every_device_stands_with_source_and_what_it_leaves_out(site):
    page = html.unescape((site / "energy.html").read_text(encoding="utf-8"))
    for device in energy.DEVICES.values():
        assert f"<code>{device.name}</code>" in page
        assert device.source in page
        assert device.leaves_out in page


def public_objects():
    """The functions and classes that the packages export, by the name of the file that defines them."""
    for package in (converters, energy):
        for name in package.__all__:
            thing = getattr(package, name)
            if getattr(thing, "__module__", "").startswith("converters."):
                yield f"{thing.__module__}.{name}"


def test_everything_exported_is_in_the_reference(site):
    pages = "".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html"))
    names = list(public_objects())
    assert len(names) > 25
    assert [name for name in names if f'id="{name}"' not in pages] == []


def defined_tests(file: str) -> set[str]:
    path = ROOT / "tests" / file
    if not path.is_file():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_named_tests_exist(path):
    for file, function in NAMED_TEST.findall(path.read_text(encoding="utf-8")):
        assert function in defined_tests(file), f"{path.name} names {file}::{function}"


def test_every_promise_names_its_test():
    text = (ROOT / "docs" / "exactness.md").read_text(encoding="utf-8")
    table = text.split("| promise | shown by |")[1].split("\n\n")[0]
    rows = [line for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(rows) > 10
    assert [row for row in rows if not NAMED_TEST.search(row.split("|")[-2])] == []


def anchors(path: Path) -> set[str]:
    """Anchors of a Markdown file's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", TEXTS[:3], ids=name_of)
def test_links_resolve(path):
    links = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if "://" not in link]
    assert links
    for link in links:
        target, _, anchor = link.partition("#")
        file = path.parent / target if target else path
        assert file.exists(), f"{path.name} links to {link}, which is not there"
        assert not anchor or anchor in anchors(file), f"{path.name} links to {link}, which has no such heading"


def run_blocks(path: Path) -> dict:
    """Runs the python blocks of a text one after another, and returns their names."""
    text = path.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S))
    assert blocks, f"{path.name} has no python block"
    names: dict = {}
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(path), "exec"), names)  # so that a traceback shows the line
    return names


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    require("nengo-dl")
    config = NetworkConfig(widths=(4, 6), nm_widths=(4,), threshold=0.1)
    save_model(tmp_path / "runs" / "demo" / "model.safetensors", ANML(config, classes=5, size=12))
    monkeypatch.chdir(tmp_path)
    names = run_blocks(ROOT / "README.md")
    assert names["recording"].backend == "nengo-dl"
    assert any(spikes.any() for spikes in names["recording"].spikes.values())
    assert names["fidelity"].origin is None or names["fidelity"].origin[1].margin < 1e-5
    assert names["spikes"].shape == names["membrane"].shape == (10, 4, 32)


def test_the_example_of_events_runs(capsys):
    names = run_blocks(ROOT / "docs" / "events.md")
    camera, sent = names["camera"], names["sent"]
    assert len(camera.events) + camera.late + camera.taken == 800
    assert min(camera.late, camera.taken, len(sent), len(names["again"].events("4"))) > 0
    assert capsys.readouterr().out.endswith("True\n")


def test_the_examples_of_extending_run(capsys):
    simulate = importlib.import_module("converters.simulate")  # the package exports a function of the same name
    registries = (simulate._BACKENDS, graph_builder._LOWERINGS, energy.DEVICES, DATASETS)
    with patch.dict(registries[0]), patch.dict(registries[1]), patch.dict(registries[2]), patch.dict(registries[3]):
        names = run_blocks(ROOT / "docs" / "extending.md")
        assert "int8-weights" in converters.backends()
        assert "torch.nn.AdaptiveAvgPool2d" in converters.supported()
    model, x = names["model"], names["x"]
    neuron = model[1]
    neuron.reset_mem()
    outputs = [model(x).detach().numpy() for _ in range(names["graph"].steps)]
    assert abs(sum(outputs) / len(outputs) - names["reference"].output).max() < 1e-5
    assert names["reference"].spikes["1"].any()
    assert "J per inference on mychip" in capsys.readouterr().out
    assert names["bars"].images.shape == (40, 20, 20, 20)
    assert "int8-weights" not in converters.backends()
    assert "mychip" not in energy.DEVICES
