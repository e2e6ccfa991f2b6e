"""Size of the code of checkouts: lines, and functions with many parameters.

``python tests/bench/code_figures.py [CHECKOUT ...]``, ``--list`` to name the functions.

It counts the files of ``vidfeat/`` and ``cli/``. Lines of code leave out blank lines, comments and
docstrings. ``self``, ``cls``, ``*args`` and ``**kwargs`` do not count as parameters. Click's
commands are left out: each of their parameters is an option of the command line.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

MOST_PARAMETERS = 7
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def source_files(checkout: Path) -> Iterator[Path]:
    """The files that count; ``vidfeat/cli`` and ``vidfeat/pretrained`` may be links."""
    for package in ("vidfeat", "cli"):
        for file in sorted((checkout / package).rglob("*.py")):
            if file.relative_to(checkout).parts[:2] not in (
                ("vidfeat", "cli"),
                ("vidfeat", "pretrained"),
            ):
                yield file


def code_lines(text: str, tree: ast.Module) -> int:
    """Lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        # docstrings: at the start of a body, and after a field
        for child in getattr(node, "body", []) if isinstance(node, _WITH_DOCSTRING) else []:
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                assert child.end_lineno is not None
                lines.difference_update(range(child.lineno, child.end_lineno + 1))
    return len(lines)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of a function's parameters."""
    arguments = function.args
    names = [
        argument.arg
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    ]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function is a click command."""
    return any(
        isinstance(one, ast.Call) and ast.unparse(one.func).endswith((".command", ".group"))
        for one in function.decorator_list
    )


def figures(checkout: Path) -> tuple[int, int, list[str]]:
    """Lines, lines of code, and a line for each function with more than seven parameters."""
    lines = code = 0
    long: list[str] = []
    for file in source_files(checkout):
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines += len(text.splitlines())
        code += code_lines(text, tree)
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not is_command(node):
                count = len(parameters(node))
                if count > MOST_PARAMETERS:
                    long.append(f"{file.relative_to(checkout)}:{node.lineno} {node.name} ({count})")
    return lines, code, long


def main() -> None:
    """Print the figures of each checkout."""
    parser = argparse.ArgumentParser(description="Size of the code of checkouts.")
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path()], metavar="CHECKOUT")
    parser.add_argument("--list", action="store_true", help="name the functions")
    options = parser.parse_args()
    for checkout in options.checkouts:
        lines, code, long = figures(checkout)
        print(
            f"{checkout}: {lines} lines, {code} of code, "
            f"{len(long)} functions with more than {MOST_PARAMETERS} parameters"
        )
        for line in long if options.list else []:
            print(f"  {line}")


if __name__ == "__main__":
    main()
