"""Torch's C++ compiler with a shorter start, for graphs on a CPU.

Before the first kernel, torch compiles a program for each set of the processor's instructions, loads it in a process of its own,
and then compiles its headers: ten seconds of work where nothing is cached, and a second in every later training. So

- `quick_checks` asks the compiler only whether it knows an instruction set. That the processor has the set, torch knows already.
- `headers_ahead` compiles the headers beside what else is to be done.
- `import_for_cpu` imports the compiler without making the templates of kernels for GPUs, a third of the import.

What torch calls these things are private names of it, so that anything unexpected leaves torch's own way.
"""

import contextlib
import functools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

__all__ = ["headers_ahead", "import_for_cpu", "quick_checks"]

KERNEL = '#include <torch/csrc/inductor/cpp_prefix.h>\nextern "C" void kernel(float* out) {}\n'
"""A kernel that needs the headers, and is never compiled itself."""


@contextlib.contextmanager
def quick_checks() -> Iterator[None]:
    """A block in which an instruction set counts as usable if the compiler knows it, without a compiled program for proof."""
    kind = _instruction_sets()
    if kind is None:
        yield
        return
    before = kind.check_build
    kind.check_build = lambda self, code: _is_known(self.build_arch_flags())
    try:
        yield
    finally:
        kind.check_build = before


def headers_ahead() -> threading.Thread | None:
    """A thread that compiles torch's headers for kernels on a CPU if they are not compiled; whoever needs them waits for it."""
    with contextlib.suppress(ImportError, AttributeError):
        from torch._inductor.codecache import CppPythonBindingsCodeCache

        thread = threading.Thread(target=_compile_headers, args=(CppPythonBindingsCodeCache.load_async,), daemon=True)
        thread.start()
        return thread
    return None


def import_for_cpu() -> None:
    """Import torch's compiler, and make the templates of kernels when they are rendered, which those for GPUs never are here."""
    with contextlib.suppress(ImportError, AttributeError):
        kind: Any = import_module("torch._inductor.codegen.common").KernelTemplate
        make = kind._template_from_string
        kind._template_from_string = staticmethod(functools.partial(_Template, make))
        try:
            import_module("torch._inductor.compile_fx")
        finally:
            kind._template_from_string = staticmethod(make)


class _Template:
    """A template of `make`, made when it is asked for something."""

    def __init__(self, make: Callable[[str], Any], source: str) -> None:
        self._make, self._source = make, source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._make(self._source), name)


def _compile_headers(load_async: Any) -> None:
    # whatever is wrong here is wrong for the kernels too, whose error the caller of the compiler sees
    with contextlib.suppress(Exception):
        load_async(KERNEL, submit_fn=lambda compile: None)


def _instruction_sets() -> Any | None:
    """Torch's base class of instruction sets; None where its checks are not those that are known here."""
    with contextlib.suppress(ImportError):
        from torch._inductor.cpu_vec_isa import VecISA

        if sys.platform == "linux" and hasattr(VecISA, "check_build") and hasattr(VecISA, "build_arch_flags"):
            return VecISA
    return None


@functools.cache
def _is_known(flags: str) -> bool:
    """Whether the C++ compiler accepts `flags`."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    command = [get_cpp_compiler(), *flags.split(), "-fsyntax-only", "-x", "c++", "/dev/null"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
