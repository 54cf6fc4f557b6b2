"""Torch's C++ compiler is asked what it knows, and its headers are compiled beside other work."""

import pytest
import torch._inductor.codecache
from torch._inductor.codegen.common import KernelTemplate
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.cpu_vec_isa import VecAVX2, VecISA

from vae_lightning.machine import compiler
from vae_lightning.machine.compiler import _Template, headers_ahead, import_for_cpu, quick_checks


class Unknown(VecAVX2):
    def build_arch_flags(self) -> str:
        return "-mno-such-instructions"


def test_a_set_of_instructions_is_usable_if_the_compiler_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = VecISA.check_build
    with quick_checks():
        assert not Unknown().check_build("")
        known = VecAVX2()
        known.build_arch_flags = lambda: "-O2"  # type: ignore[method-assign]
        assert known.check_build("not compiled")
    assert VecISA.check_build is before


def test_another_compiler_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", lambda: "false")
    compiler._is_known.cache_clear()
    assert not compiler._is_known("-O2")
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", get_cpp_compiler)
    compiler._is_known.cache_clear()
    assert compiler._is_known("-O2")


def test_headers_are_asked_for_and_no_kernel_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_async(code: str, submit_fn: object) -> None:
        asked.append((code, submit_fn))
        raise OSError("no compiler")

    monkeypatch.setattr(torch._inductor.codecache.CppPythonBindingsCodeCache, "load_async", load_async)
    thread = headers_ahead()
    assert thread is not None
    thread.join(10)
    ((code, submit),) = asked
    assert "cpp_prefix.h" in code
    assert submit(None) is None  # type: ignore[operator]


def test_templates_are_made_when_they_are_rendered() -> None:
    made = []

    def make(source: str) -> str:
        made.append(source)
        return source

    template = _Template(make, "a kernel")
    assert not made
    assert template.upper() == "A KERNEL"
    assert made == ["a kernel"]


def test_templates_are_torchs_own_after_the_import() -> None:
    before = KernelTemplate._template_from_string
    import_for_cpu()
    assert KernelTemplate._template_from_string is before
    assert KernelTemplate._template_from_string("{{ size }}").render(size=3) == "3"
