"""The packages, their order, and the public names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vidfeat

ROOT = Path(__file__).resolve().parents[1]
HOMES = {"vidfeat": ROOT / "vidfeat", "vidfeat.cli": ROOT / "cli"}
HOMES["vidfeat.pretrained"] = ROOT / "pretrained"


def table() -> list[str]:
    """Packages from the bottom up, as the table in CONTRIBUTING.md lists them."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## Packages", 1)[1].split("\n## ", 1)[0]
    names: list[str] = []
    for line in section.splitlines():
        if line.startswith("| `"):
            names += re.findall(r"`([a-z0-9_]+)`", line.split("|")[1])
    return names


def modules() -> dict[str, Path]:
    """Every module by its name."""
    found: dict[str, Path] = {}
    for name, folder in HOMES.items():
        for file in sorted(folder.rglob("*.py")):
            inside = file.relative_to(folder)
            if name == "vidfeat" and inside.parts[0] in ("cli", "pretrained"):
                continue  # links of a development checkout
            parts = [name, *inside.with_suffix("").parts]
            if parts[-1] == "__init__":
                parts.pop()
            found[".".join(parts)] = file
    return found


MODULES = modules()


def package(module: str) -> str:
    """The package of a module; an entry point (``__main__``) stands above all, in ``cli``."""
    parts = module.split(".")
    if parts[-1] == "__main__":
        return "cli"
    return parts[1] if len(parts) > 1 else ""


def imports(module: str) -> Iterator[str]:
    """The project's modules that a module imports: at its top, in functions, for types."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vidfeat":
            assert node.level == 0
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if full in MODULES else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("vidfeat"))


def test_packages_are_those_of_the_table() -> None:
    names = table()
    there = {package(module) for module in MODULES} - {""}
    assert sorted(names) == sorted(there)


def test_no_import_points_upwards() -> None:
    order = table()
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        if package(module)
        for other in imports(module)
        if not package(other) or order.index(package(other)) > order.index(package(module))
    ]
    assert not wrong


def test_no_two_modules_import_each_other() -> None:
    graph = {module: set(imports(module)) - {module} for module in MODULES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module in done:
            return
        for other in graph[module]:
            visit(other, (*way, module))
        done.add(module)

    for module in graph:
        # the root names everything below it, lazily; nothing below imports it
        if module != "vidfeat":
            visit(module, ())


def test_no_module_has_the_name_of_a_public_function() -> None:
    public = {name for name in vidfeat.__all__ if name[0].islower()}
    for module in MODULES:
        assert module.removeprefix("vidfeat.") not in public


def test_public_names_survive_the_import_of_every_module() -> None:
    code = f"""
import importlib
for name in {sorted(m for m in MODULES if not m.endswith("__main__"))!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as missing:  # an extra that is not installed
        if str(missing.name).startswith("vidfeat"):
            raise
import inspect, vidfeat
for name in vidfeat.__all__:
    value = getattr(vidfeat, name)
    assert not inspect.ismodule(value), name
    assert name == "__version__" or callable(value), name
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_public_names_are_documented() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `([A-Za-z_]+)[`(]", text, re.M)
    assert sorted(documented) == sorted(set(vidfeat.__all__) - {"__version__"})
    assert dir(vidfeat) == sorted(vidfeat.__all__)


@pytest.mark.parametrize("name", [name for name in vidfeat.__all__ if name != "__version__"])
def test_public_names_have_docstrings(name: str) -> None:
    assert getattr(vidfeat, name).__doc__


def test_long_files_have_a_reason() -> None:
    """No file of the library above 400 lines, unless CONTRIBUTING.md says why."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("### Files above 400 lines", 1)[1].split("\n#", 1)[0]
    excused = set(re.findall(r"`(vidfeat/[\w/]+\.py)`", section))
    long = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "vidfeat").rglob("*.py")
        if file.relative_to(ROOT).parts[1] not in ("cli", "pretrained")
        and len(file.read_text(encoding="utf-8").splitlines()) > 400
    }
    assert long == excused
