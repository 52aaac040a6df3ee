"""The compiled tree is made from the sources as they are, or not at all."""

import sys
from enum import Enum
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import is_typeddict

from tests.bench.overhead.tools import ROOT


def script():
    spec = spec_from_file_location("compile_hot", ROOT / "deploy" / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tree(at: Path) -> Path:
    for package in ("policies", "engines", "router"):
        (at / package).mkdir(parents=True)
        (at / package / "__init__.py").write_text("")
    return at


def test_every_module_to_compile_exists():
    assert [name for name in script().HOT if not (ROOT / name).is_file()] == []


def test_no_compiled_class_derives_from_one_that_is_interpreted():
    """Their objects could be referred to weakly, which mypyc counts as if they held the reference.

    Once one is gone, the collector follows what is no longer there. Nobody refers weakly to
    exceptions; protocols and typed dicts have no objects of their own, enums stay interpreted.
    Source: github.com/mypyc/mypyc/issues/1102.
    """
    modules = [import_module(name.removesuffix(".py").replace("/", ".")) for name in script().HOT]
    names = {module.__name__ for module in modules}
    harmless = (BaseException, Enum)
    classes = [
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ in names and not issubclass(each, harmless)
    ]
    interpreted = {
        f"{each.__qualname__}({base.__qualname__})"
        for each in classes
        if not (getattr(each, "_is_protocol", False) or is_typeddict(each))
        for base in each.__bases__
        if base is not object and base.__module__ not in names
    }

    assert len(classes) > len(modules)
    assert interpreted == set()


def test_another_text_or_another_name_makes_another_tree(tmp_path):
    compile_hot, root = script(), tree(tmp_path)
    before = compile_hot.fingerprint(root)

    (root / "router" / "wire.py").write_text("SIZE = 1")
    written = compile_hot.fingerprint(root)
    (root / "router" / "wire.py").rename(root / "router" / "wires.py")

    assert len({before, written, compile_hot.fingerprint(root)}) == 3


def test_what_is_compiled_already_is_left_as_it_is(tmp_path):
    compile_hot, root, into = script(), tree(tmp_path / "root"), tmp_path / "into"
    into.mkdir()
    (into / compile_hot.STAMP).write_text(compile_hot.fingerprint(root))

    assert not compile_hot.compiled(into, root)


def test_without_a_compiler_nothing_is_replaced_and_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", ["compile.py", str(tmp_path / "into")])

    assert script().main() == 1
    assert "no C compiler on PATH" in capsys.readouterr().err
    assert not (tmp_path / "into").exists()
