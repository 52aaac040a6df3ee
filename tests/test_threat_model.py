"""The threat model says which test holds each of its rows; here it is held to that."""

import ast
import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tests.canary import CANARY, secret

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / ".github" / "SECURITY.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
SOURCES = [
    path
    for folder in ("router", "engines", "policies", "tests", "deploy")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
EXCEPTION = re.compile(
    r"#\s*(?:noqa:\s*(?:[A-Z]+\d+,\s*)*S\d+(?:,\s*[A-Z]+\d+)*|nosec(?:\s+B\d+)*)"
)


def rows():
    """Return the threats and what is said to hold each."""
    table = TEXT.partition("## Threat model")[2]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def functions(path):
    """Return the names of the tests that pytest collects from a file."""
    tree = ast.parse((ROOT / path).read_text())
    return {
        each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_threat_has_a_defence_and_a_test():
    assert len(rows()) > 25
    for row in rows():
        assert len(row) == 3, row
        assert NAMED.findall(row[2]), row[0]
        assert NAMED.sub("", row[2]).strip(", ") == "", row[0]


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED.findall(TEXT))))
def test_every_test_that_is_named_is_there(path, name):
    assert Path(path).name.startswith("test_")
    assert name.startswith("test_")
    assert name in functions(path)


def test_every_exception_from_a_security_rule_has_a_reason():
    bare = []
    for path in SOURCES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for found in EXCEPTION.finditer(line):
                reason = EXCEPTION.sub("", line[found.start() :]).strip("#-( \t")
                if not reason:
                    bare.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")

    assert bare == []


@pytest.mark.parametrize("path", sorted((ROOT / "deploy" / "requirements").glob("*.txt")), ids=str)
def test_every_locked_package_has_a_hash(path):
    packages = re.split(r"\n(?=[\w.-]+==)", path.read_text())[1:]
    if path.name == "excludes.txt":
        assert packages == []
        return

    assert packages
    assert [each for each in packages if "--hash=sha256:" not in each] == []


def audit():
    """Return the script behind `make audit`."""
    spec = spec_from_file_location("audit", ROOT / "deploy" / "audit.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FLAW = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
SOUND = {"name": "a", "version": "1.0", "vulns": []}
FLAWED = {"name": "b", "version": "1.0", "vulns": [FLAW]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        ([SOUND], 0, "no flaw is known of 1 packages"),
        ([SOUND, UNKNOWN], 0, "no data on c; no flaw is known of the others"),
        ([UNKNOWN], 0, "not audited: the data on known flaws cannot be had here"),
        (None, 0, "not audited: the data on known flaws cannot be had here"),
        ([SOUND, FLAWED, UNKNOWN], 1, "b 1.0: PYSEC-1, mended in 2.0"),
    ],
)
def test_a_known_flaw_fails_the_audit_and_missing_data_is_told(found, status, said):
    report = None if found is None else {"dependencies": found}

    assert audit().verdict([report]) == (status, [said])


def test_a_tool_that_makes_no_report_is_told():
    assert audit().ask("/bin/false", "lock.txt") is None


@pytest.mark.timeout(60)  # a process of its own
def test_a_secret_in_a_log_fails_its_test(tmp_path):
    (tmp_path / "test_careless.py").write_text(
        "from tests.canary import secret\n"
        "def test_careless(): print(secret('x'))\n"
        "def test_careful(): print('nothing')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "tests.conftest",
               str(tmp_path)]  # fmt: skip
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(  # noqa: S603 # ourselves
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )

    assert "1 failed, 1 passed" in done.stdout
    assert "has let a secret out: Captured stdout call" in done.stdout


def test_secrets_are_told_by_one_word():
    assert secret("x").startswith(CANARY)
