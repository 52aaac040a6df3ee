"""The compiled tree is made from the sources as they are, or not at all."""

import os
import subprocess
import sys
import zipfile
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


def wheel(into: Path, compiled_tree: Path | None) -> subprocess.CompletedProcess[str]:
    """Build the wheel as pip does, without an environment of its own."""
    told = {} if compiled_tree is None else {"HEADWAY_COMPILED": str(compiled_tree)}
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(into)]
    return subprocess.run(  # noqa: S603 # our own project
        command, cwd=ROOT, env=os.environ | told, capture_output=True, text=True, check=False
    )


def test_a_wheel_holds_what_was_compiled_and_fits_no_other_interpreter(tmp_path):
    made = tmp_path / "compiled"
    (made / "router").mkdir(parents=True)
    (made / "router" / "proxy.so").write_bytes(b"machine code")
    (made / "router" / "proxy.py").write_bytes(b"its source")
    (made / script().STAMP).write_text(script().fingerprint())

    assert wheel(tmp_path, made).returncode == 0
    (built,) = tmp_path.glob("*.whl")

    assert f"-cp{sys.version_info.major}{sys.version_info.minor}-" in built.name
    with zipfile.ZipFile(built) as packed:
        assert packed.read("router/proxy.so") == b"machine code"
        assert packed.read("router/proxy.py") == (ROOT / "router" / "proxy.py").read_bytes()


def test_a_wheel_that_is_told_of_no_compiled_tree_fits_everywhere(tmp_path):
    assert wheel(tmp_path, None).returncode == 0
    (built,) = tmp_path.glob("*.whl")

    assert built.name.endswith("-py3-none-any.whl")


def test_no_wheel_is_made_of_what_was_compiled_from_other_sources(tmp_path):
    (tmp_path / script().STAMP).write_text("of yesterday")

    refused = wheel(tmp_path, tmp_path)

    assert refused.returncode != 0
    assert "was not compiled from these sources" in refused.stderr
    assert list(tmp_path.glob("*.whl")) == []
