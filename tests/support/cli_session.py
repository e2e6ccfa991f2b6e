"""The command line run many times in one process: importing torch each time takes seconds."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

_SERVE = """
import json, os, sys, tempfile, traceback
answers = os.fdopen(os.dup(1), "w")
for request in sys.stdin:
    request = json.loads(request)
    os.chdir(request["cwd"])
    sys.argv = ["vidfeat", *(os.fsdecode(bytes.fromhex(name)) for name in request["arguments"])]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            from vidfeat.cli import main
            main()
            status = 0
        except SystemExit as end:
            status = 0 if end.code is None else end.code
        except BaseException:
            traceback.print_exc()
            status = 70
        sys.stdout.flush()
        sys.stderr.flush()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().hex())
    answers.write(json.dumps([status, *texts]) + "\\n")
    answers.flush()
"""


PATIENCE_SECONDS = 240


class Session:
    """One process that takes command lines; the first pays for the imports."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )

    def __call__(self, *arguments: str | Path, cwd: Path | None = None) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request: dict[str, Any] = {
            "cwd": os.fspath(cwd or Path.cwd()),
            "arguments": [os.fsencode(argument).hex() for argument in arguments],
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_SECONDS)
        if not ready:
            self._process.kill()
        answer = self._process.stdout.readline() if ready else ""
        assert answer, f"no answer to {arguments}: the process has died or hangs"
        status, out, err = json.loads(answer)
        return Outcome(status, bytes.fromhex(err), bytes.fromhex(out))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


class Outcome:
    """How a command line ended: exit status, lines of standard error, standard output."""

    def __init__(self, status: int, err: bytes, out: bytes) -> None:
        self.status = status
        self.errors = err.decode("utf-8", "surrogateescape")
        self.out = out.decode("utf-8", "surrogateescape")
        assert "Traceback" not in self.errors, self.errors

    @property
    def lines(self) -> list[str]:
        """Lines of standard error without notes and progress, which say no ill."""
        lines = [line for line in self.errors.splitlines() if line.strip()]
        return [line for line in lines if not line.startswith(("note:", "extract:"))]

    def one_line(self, *words: str) -> None:
        """Check for exit status 2 and a single line that names the words."""
        assert self.status == 2, (self.status, self.lines)
        assert len(self.lines) == 1, self.lines
        for word in words:
            assert word in self.lines[0], (word, self.lines)


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
