"""Print to a terminal, a file or a pipe whatever its encoding or state: no training is lost because a line could not be printed.

`prepare` is called as a program starts. From then on a character that the encoding lacks becomes a plain one, and output is dropped
where nobody reads it any more (`| head -1`, a closed terminal, a full disk behind `> log`).
"""

import codecs
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "prepare", "print_table", "short"]

PLAIN = {"•": "*", "–": "-", "—": "-", "−": "-", "…": "...", "±": "+-", "×": "x", "✓": "v", "“": '"', "”": '"', "’": "'"}
LINES = dict.fromkeys("─━═╌╍╴╸╺╶", "-") | dict.fromkeys("│┃║", "|")


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """Plain characters in place of those that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    # the other characters that draw tables are corners and crossings
    plain = (PLAIN.get(c) or LINES.get(c) or ("+" if "─" <= c <= "╿" else "?") for c in lacking)
    return "".join(plain), error.end


codecs.register_error("vae_lightning.plain", _replaced)


class Steady:
    """A text stream that drops what is written once its file, pipe or terminal is gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._let_go()
            return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def console() -> "Console":
    """A rich console that shows text as it is: `[v2]` is no markup, and `:x:` no picture."""
    from rich.console import Console  # imported here, so that --help does not wait for rich

    return Console(markup=False, emoji=False, highlight=False)


def print_table(terminal: "Console", table: "Table") -> None:
    """Print `table`; row by row, a cell a line, on a terminal so narrow that figures would be cut."""
    wanted = table.__rich_measure__(terminal, terminal.options.update(max_width=1000)).maximum
    if wanted <= terminal.width:
        terminal.print(table)
        return
    headers = [str(column.header) for column in table.columns]
    for first, *others in zip(*(column.cells for column in table.columns), strict=True):
        terminal.print(str(first), soft_wrap=True)
        for header, cell in zip(headers[1:], others, strict=True):
            if str(cell):
                terminal.print(f"  {header} {cell}", soft_wrap=True)


_command_folder: str | None = None


def prepare() -> None:
    """Replace standard output and standard error by streams that cannot fail, and remember the command's working directory."""
    global _command_folder
    _command_folder = os.getcwd()  # noqa: PTH109
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the program
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
        elif not isinstance(stream, Steady):
            utf8 = codecs.lookup(stream.encoding).name == "utf-8"
            # names of files may hold bytes that are no text, which UTF-8 can hand through
            stream.reconfigure(errors="surrogateescape" if utf8 else "vae_lightning.plain")
            setattr(sys, name, Steady(stream))


def short(path: str | os.PathLike[str]) -> str:
    """`path` relative to the command's working directory if it lies below that directory, else absolute."""
    resolved, here = os.path.realpath(path), os.path.realpath(_command_folder or os.curdir)
    return os.path.relpath(resolved, here) if resolved.startswith(os.path.join(here, "")) else resolved  # noqa: PTH118
