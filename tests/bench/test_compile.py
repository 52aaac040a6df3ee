"""The compiled tree is made from the sources as they are, or not at all."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

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
