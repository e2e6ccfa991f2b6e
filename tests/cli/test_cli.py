"""The command line as a whole: quick help, one line for what can be mended, a true table."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from vidfeat.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]


def vidfeat(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vidfeat", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    module = import_module(f"vidfeat.cli.{COMMANDS[name][0]}")
    assert isinstance(module.command, click.Command)
    for flag in ("--help", "-h"):
        result = CliRunner().invoke(cli, [name, flag])
        assert result.exit_code == 0, result.output
    example = isinstance(module.command, click.Group) or "Example" in result.output
    assert example, f"vidfeat {name} --help shows no example"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_docs(name: str) -> None:
    texts = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    assert any(f"vidfeat {name}" in text.read_text(encoding="utf-8") for text in texts)


HEAVY = ("torch", "faiss", "h5py", "sklearn", "matplotlib", "av", "numpy", "rich")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom vidfeat.cli import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_commands_are_told_without_torch() -> None:
    """Importing a command's module imports no library: that happens when it works."""
    code = (
        "import sys\nfrom importlib import import_module\nfrom vidfeat.cli import COMMANDS\n"
        "for module, _ in COMMANDS.values(): import_module(f'vidfeat.cli.{module}')\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_takes_no_more_than_three_times_importing_click() -> None:
    """CPU time of whole processes, in turn, by their medians: a ratio within one run."""
    commands = {
        "help": [sys.executable, "-m", "vidfeat", "--help"],
        "click": [sys.executable, "-c", "import click"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime)"
    )
    for _ in range(5):
        for name, command in commands.items():
            done = subprocess.run(
                [sys.executable, "-S", "-c", code, *command],
                capture_output=True,
                text=True,
                check=True,
            )
            seconds[name].append(float(done.stdout))
    ratio = statistics.median(seconds["help"]) / statistics.median(seconds["click"])
    assert ratio <= 3, f"{ratio:.2f} x, {seconds}"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["extrakt"], "did you mean extract?"),
        (["extract", "-o", "f.h5"], "no videos were given"),
        (["extract", "absent", "-o", "f.h5"], "no such file or folder"),
        (["extract", ".", "-o", "f.h5", "--hop-frames", "0"], "--hop-frames"),
        (["extract", ".", "-o", "f.h5", "--shard", "3/2"], "--shard must be K/N"),
        (["info", "absent.h5"], "no such file or folder"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.mp4").write_text("no video")
    done = vidfeat(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_models_as_json() -> None:
    rows = json.loads(vidfeat("models", "--json").stdout)
    by_name = {row["name"]: row for row in rows}
    assert by_name["r2plus1d_18"]["parameters"] == 31_505_325
    assert by_name["r2plus1d_18"]["embedding_size"] == 512


def test_models_show_the_published_figures_beside_our_own() -> None:
    lines = {
        line.split()[0]: line for line in vidfeat("models").stdout.splitlines() if line.split()
    }
    assert "29.7 M     74.0        2048    32 x 224" in lines["ir_csn_152"]
    assert "29.6 M, 96.7 (32 x 256)" in lines["ir_csn_152"]
    assert "64.9 M, 38.5 (16 x 112)" in lines["c3d"]


def test_the_wheel_would_hold_every_package() -> None:
    """Packages are listed by hand, since two of them stand outside of ``vidfeat/``."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(settings["tool"]["setuptools"]["packages"])
    homes = {"vidfeat": ROOT / "vidfeat", "vidfeat.cli": ROOT / "cli"}
    homes["vidfeat.pretrained"] = ROOT / "pretrained"
    found = {
        ".".join([package, *init.parent.relative_to(home).parts])
        for package, home in homes.items()
        for init in home.rglob("__init__.py")
    }
    assert listed == found


def test_no_path_of_a_machine_is_in_the_repository() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False
    ).stdout
    marks = [b"/" + name + b"/" for name in (b"work", b"farm", b"root")]
    for name in filter(None, listing.split(b"\0")):
        file = ROOT / name.decode()
        if not file.is_file() or file.suffix in {".png", ".safetensors"}:
            continue
        data = file.read_bytes()
        for mark in marks:
            assert mark not in data.replace(b"https:", b""), f"{name.decode()} holds {mark!r}"
