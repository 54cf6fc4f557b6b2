"""Command lines that run when they are pasted: texts quoted for Hydra's grammar and for a shell.

Hydra reads `=`, `,`, brackets, quotes and `${...}` in a value; a shell reads most of them and more. `setting` quotes for Hydra,
`command` for the shell as well.
"""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

__all__ = [
    "called",
    "command",
    "hydra_quoted",
    "is_hydra_quoted",
    "path_setting",
    "script",
    "setting",
    "shell_quoted",
    "tensorboard",
    "unquoted",
]

PLAIN = re.compile(r"[A-Za-z_./][\w./+%@-]*", re.ASCII)
"""Texts that Hydra takes for a string without quotes."""
WORDS = {"null", "true", "false", "nan", "inf"}
"""Words that Hydra takes for null, a boolean or a number."""
INSTALLED = {"train.py": "vae-train", "evaluate.py": "vae-evaluate"}
"""The installed command that does what a script of a checkout does."""
OTHERS = ("vae-sweep", "vae-export", "vae-explore", "vae-compress")
"""The other installed commands."""
QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)


def is_hydra_quoted(value: str) -> bool:
    """Whether `value` is one quoted string of Hydra's grammar."""
    return QUOTED.fullmatch(value) is not None


def unquoted(value: str) -> str:
    r"""What Hydra would read, if `value` is one quoted string of its grammar; otherwise `value`.

    >>> print(unquoted("'a=1,b'"), unquoted(r"'it\'s'"), unquoted("'a','b'"))
    a=1,b it's 'a','b'
    """
    if not is_hydra_quoted(value):
        return value
    inner = re.sub(rf"(\\+)({value[0]}|$)", lambda match: match[1][: len(match[1]) // 2] + match[2], value[1:-1])
    return inner.replace("\\${", "${")


def hydra_quoted(value: str) -> str:
    """`value`, quoted where Hydra would read another text; `${...}` stays an interpolation.

    >>> print(hydra_quoted("vae"), hydra_quoted("epoch=0-step=100.ckpt"))
    vae 'epoch=0-step=100.ckpt'
    """
    if PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    # a backslash before a quote, or at the end, is Hydra's own
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + "\\'", value)
    escaped = re.sub(r"(\\+)$", lambda match: match[1] * 2, escaped)
    return f"'{escaped}'"


def setting(key: str, value: object) -> str:
    """`key=value` for Hydra, which reads exactly `value`, without interpolations."""
    return f"{key}={hydra_quoted(str(value).replace('${', chr(92) + '${'))}"


def path_setting(key: str, path: str | os.PathLike[str]) -> str:
    """`key=path` for the commands of this project, quoted only where they would read more than a path (`latest`, `~`, `${...}`)."""
    text = os.fspath(path)
    if text == "latest":
        text = "./latest"
    special = text in ("", "null") or text.startswith("~") or "${" in text or is_hydra_quoted(text)
    return setting(key, text) if special else f"{key}={text}"


def shell_quoted(text: str, encoding: str | None = None) -> str:
    """`text` as one word of a shell; as `$'...'` of bash and zsh where the terminal could not show the text.

    >>> print(shell_quoted("a b"), shell_quoted("a=1"), shell_quoted("two\\nlines"))
    'a b' a=1 $'two\\012lines'
    """
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
        shown = text.isprintable()
    except UnicodeError:
        shown = False
    if not shown:
        octets = (chr(b) if 32 <= b < 127 and chr(b) not in "'\\" else f"\\{b:03o}" for b in os.fsencode(text))
        return f"$'{''.join(octets)}'"
    return text if re.fullmatch(r"[\w./+@%:,=-]+", text, re.ASCII) else shlex.quote(text)


def command(name: str, *words: str) -> str:
    """The command line that calls this project's script `name` with `words`, from where this program was called.

    It is the installed command, `vae-train` for `train.py`, where this program is one of those.
    """
    installed = _installed(name)
    program = [installed] if installed else [_python(), script(name)]
    return " ".join(map(shell_quoted, [*program, *words]))


def called(name: str) -> str:
    """How the script `name` is called in a file or in a sentence: `python train.py`, or `vae-train` where this is that command."""
    return INSTALLED[name] if _installed(name) else f"python {shell_quoted(script(name), 'utf-8')}"


def tensorboard() -> str:
    """The words that start TensorBoard from this Python's installation."""
    installed = shutil.which("tensorboard")
    beside = installed is not None and Path(installed).absolute().parent == Path(sys.executable).absolute().parent
    return "tensorboard" if beside else f"{shell_quoted(_python())} -m tensorboard.main"


def script(name: str) -> str:
    """The path of the script `name` beside the running script, if that is one of this project's; else `name` itself."""
    program = _program()
    return str(program.with_name(name)) if program.name in INSTALLED else name


def _installed(name: str) -> str:
    """The installed command for the script `name`, by its path if no shell would find it; an empty string in a checkout."""
    program = _program()
    if program.name not in (*INSTALLED.values(), *OTHERS):
        return ""
    beside, found = program.absolute().with_name(INSTALLED[name]), shutil.which(INSTALLED[name])
    return INSTALLED[name] if found is not None and Path(found).absolute() == beside else str(beside)


def _program() -> Path:
    return Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path("train.py")


def _python() -> str:
    """`python` where that starts the running interpreter, else the interpreter's path."""
    on_path = shutil.which("python")
    if on_path is None or Path(on_path).absolute().parent == Path(sys.executable).absolute().parent:
        return "python"
    return sys.executable
