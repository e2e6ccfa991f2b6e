"""What ``before_after_index.py`` and ``before_after_training.py`` share: checkouts and the table.

An item is a function that tries one situation on a checkout, through its commands or its public
Python names, and returns the outcome in a few words. It runs on both checkouts in turn, each time
in a new folder; every command is a fresh process of that checkout.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVED = re.compile(r"http://(\S+?):(\d+)/")


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line of stderr, or of stdout if that is empty: the error, or what was done."""
        lines = (self.stderr.strip() or self.stdout.strip() or "(says nothing)").splitlines()
        return lines[-1]

    @property
    def how(self) -> str:
        """The exit status or signal, and the last line."""
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}"
        trace = "traceback: " if "Traceback (most recent" in self.stderr else ""
        return f"exit {self.code}: {trace}{self.last_line}"


@dataclass(frozen=True)
class Checkout:
    """A working tree that ``make test`` has set up, with its own ``.venv``.

    Attributes:
        root: the working tree.
        folder: where an item may write; the working directory of its commands.
    """

    root: Path
    folder: Path

    def command(self, *arguments: object) -> list[str]:
        """The command line of ``vidfeat`` with arguments."""
        return [str(self.root / ".venv/bin/vidfeat"), *map(str, arguments)]

    def vidfeat(self, *arguments: object, **options: object) -> Done:
        """Run ``vidfeat`` to its end."""
        return self._run(self.command(*arguments), **options)

    def python(self, script: str, *arguments: object, **options: object) -> Done:
        """Run a script to its end."""
        python = str(self.root / ".venv/bin/python")
        return self._run([python, "-c", script, *map(str, arguments)], **options)

    def _run(self, command: list[str], **options: object) -> Done:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment |= options.pop("env", {})  # type: ignore[operator]
        done = subprocess.run(  # type: ignore[call-overload]
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=240,
            check=False,
            **options,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def served(self, index: Path, *options: str) -> Iterator[str]:
        """Run ``vidfeat serve`` on a free port; yields the address of the page."""
        command = self.command("serve", index, "--port", "0", "--cache", "cache", *options)
        with subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            try:
                found = SERVED.search(process.stdout.readline())
                if found is None:
                    raise RuntimeError("serve did not start")
                yield f"http://{found[1]}:{found[2]}"
            finally:
                process.terminate()


@dataclass(frozen=True)
class Item:
    """One situation of an issue.

    Attributes:
        number: of the item in the issue.
        what: the situation.
        answer: tries it on a checkout.
            right: a regular expression of the right answers.
        as_before: an answer is right only if it is the one from before.
    """

    number: int
    what: str
    answer: Callable[[Checkout], str]
    right: str
    as_before: bool = False


def main(items: Sequence[Item], about: str | None, arguments: Sequence[str]) -> int:
    """Print the table; returns 0 if all answers of this checkout are right."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="checkout of the commit before")
    parser.add_argument("--items", help="numbers of some items, such as 1,4")
    given = parser.parse_args(arguments)
    wanted = {int(text) for text in given.items.split(",")} if given.items else None
    checkouts = [given.before.resolve()] if given.before else []
    checkouts.append(ROOT)
    wrong = 0
    titles = ["before", "now"][-len(checkouts) :]
    print(f"| item | situation | {' | '.join(titles)} | right now |")
    print(f"|---|---|{'---|' * len(checkouts)}---|", flush=True)
    for item in items:
        if wanted is not None and item.number not in wanted:
            continue
        answers = [_answer(item, root) for root in checkouts]
        is_right = re.search(item.right, answers[-1]) is not None
        is_right &= not item.as_before or answers[0] == answers[-1]
        wrong += not is_right
        cells = [str(item.number), item.what, *answers, "yes" if is_right else "NO"]
        print(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |", flush=True)
    return 1 if wrong else 0


def _answer(item: Item, root: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="before-after-") as name:
        try:
            text = item.answer(Checkout(root, Path(name)))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            text = f"cannot be asked: {type(error).__name__}: {error}"
        return " ".join(text.replace(f"{name}/", "").replace(name, ".").split())[:400]
