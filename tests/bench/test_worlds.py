"""The benches' processes on a small scale: router, engines and load generators on loopback."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engines.launch.child import ChildFailed
from policies.facts import SlaClass
from router.measure.tally import Tally
from router.simulation.contenders import CONTENDERS
from router.simulation.fleet import load_fleet
from router.workload.settings import Traffic, Workload
from router.workload.stream import at_rate, offers
from tests.bench import anchors, generator, http_world, public_tool
from tests.bench.agreement import Gate
from tests.bench.public_tool import ToolFailed, ToolMissing

LITTLE = at_rate(
    Workload(
        duration_s=1.0,
        warm_up_s=0.0,
        traffic=(
            Traffic(
                name="chat",
                sla_class=SlaClass.INTERACTIVE,
                rate=1,
                prompt="fixed(64)",
                output="fixed(6)",
            ),
        ),
    ),
    anchors.CAPACITY,
)
TOOL = """\
#!/bin/sh
echo "$@" > arguments
mkdir -p out
cp ../report.json out/profile_export_aiperf.json
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(public_tool, "HOME", tmp_path)
    return tmp_path


def tool(home: Path, script: str, requests: int) -> Path:
    """Put a command in the tool's place that reports some medians."""
    report = {
        "request_count": {"avg": requests},
        "time_to_first_token": {"unit": "ms", "p50": 80.0},
        "inter_token_latency": {"unit": "ms", "p50": 20.0},
    }
    (home / "report.json").write_text(json.dumps(report))
    command = home / "bin" / public_tool.NAME
    command.parent.mkdir()
    command.write_text(script)
    command.chmod(0o755)
    return command


def test_a_point_over_sockets_serves_what_the_simulation_was_offered():
    simulation = anchors.simulated("headway", LITTLE, 1)

    point = anchors.over_sockets("headway", 1.0, LITTLE, [simulation])

    offered = len(list(offers(LITTLE, anchors.SEED)))
    assert point.requests == simulation.offered == offered > 0
    assert point.troubles == {}
    assert {gate.name for gate in point.gates if 0 <= gate.value < 1} == {
        "p99 send lag, s",
        "p99 step lateness, s",
    }
    assert all(0 < figure.found < 2 for figure in point.figures)


def test_a_router_that_dies_is_no_measurement(monkeypatch):
    fleet = load_fleet(anchors.FLEET)
    broken = replace(http_world.configuration(fleet, CONTENDERS["headway"], 1, [1, 2, 3]), pools=())
    monkeypatch.setattr(http_world, "configuration", lambda *_: broken)

    with (
        pytest.raises(ChildFailed, match="router ended with exit code 2"),
        http_world.http_world(anchors.FLEET, fleet, CONTENDERS["headway"], 1),
    ):
        pytest.fail("a world came up without pools")


def test_points_are_every_load_with_every_policy_and_one_not_valid_is_measured_again(monkeypatch):
    late = (Gate("p99 send lag, s", 1.0, 0.005),)
    tried: list[tuple[float, str]] = []

    def over_sockets(policy, load, offered, simulations):
        tried.append((load, policy))
        gates = late if tried.count((load, policy)) == 1 and load == anchors.LOADS[0] else ()
        return anchors.Point(load, policy, offered.duration_s, gates, (), {})

    monkeypatch.setattr(anchors, "over_sockets", over_sockets)
    monkeypatch.setattr(anchors, "SIMULATED_RUNS", 1)

    found = list(anchors.points(1.0))

    expected = [(load, policy) for load in anchors.LOADS for policy in anchors.POLICIES]
    assert [(point.load, point.policy) for point in found] == expected
    assert all(point.is_valid for point in found)
    assert len(tried) == len(expected) + len(anchors.POLICIES)


@pytest.mark.parametrize("arguments", [["--quick"], ["--json"], ["--seconds", "7"]])
def test_the_command_ends_with_1_where_a_point_is_short(arguments, monkeypatch, capsys):
    simulation = anchors.simulated("headway", LITTLE, 1)
    figures = anchors.figures([simulation], Tally(1.0, 0.0))
    point = anchors.Point(0.4, "headway", 5, (Gate("lag", 0.1, 1.0),), figures, {})
    asked: list[float] = []

    def points(seconds: float) -> Iterator[anchors.Point]:
        asked.append(seconds)
        yield point

    monkeypatch.setattr(anchors, "points", points)

    status = anchors.main(arguments)

    assert status == 1
    assert "interactive ttft p99 is inf" in capsys.readouterr().out
    assert asked == [
        {"--quick": anchors.QUICK_SECONDS, "--json": anchors.SECONDS}.get(arguments[0], 7)
    ]


def test_the_load_generator_finds_both_medians_twice_and_says_what_it_skipped(monkeypatch, capsys):
    def missing() -> Path:
        raise ToolMissing("no network")

    monkeypatch.setattr(public_tool, "installed", missing)
    monkeypatch.setattr(generator, "QUICK_SECONDS", 0.3)

    generator.main(["--quick", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert len(found["runs"]) == 2
    assert all(0 < run["first_token_s"] < 5 and 0 < run["per_token_s"] < 5 for run in found["runs"])
    assert found["tool"] is None
    assert found["skipped"] == "no network"


def test_the_tool_runs_between_the_two(home, monkeypatch, capsys):
    monkeypatch.setattr(generator, "QUICK_SECONDS", 0.3)
    tool(home, TOOL, requests=1)

    generator.main(["--quick"])

    told = capsys.readouterr().out
    assert "aiperf==" in told
    assert "agreement: ttft p50" in told
    assert "--request-rate 4 " in (home / "run" / "arguments").read_text()
    assert len((home / "run" / "prompts.jsonl").read_text().splitlines()) == 1


def test_a_bench_that_cannot_run_is_short(home, monkeypatch, capsys):
    monkeypatch.setattr(generator, "RATE", -1.0)
    tool(home, TOOL, requests=2)

    assert generator.main(["--quick"]) == 1
    assert "headway bench ended with 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "why"),
    [
        pytest.param(
            "#!/bin/sh\necho no tokenizer; exit 3\n", "ended with 3: no tokenizer", id="status"
        ),
        pytest.param("#!/bin/sh\n", "wrote no profile_export_aiperf.json", id="no report"),
        pytest.param("#!/bin/sh\nexec sleep 60\n", "took more than 0.1 s", id="hangs"),
    ],
)
def test_a_tool_that_tells_nothing_has_failed(script, why, home, monkeypatch):
    command = tool(home, script, requests=1)
    if "sleep" in script:
        monkeypatch.setattr(public_tool, "RUN_S", 0.1)

    with pytest.raises(ToolFailed, match=why):
        public_tool.run(command, "http://127.0.0.1:1", "m", list(offers(LITTLE, 1)), 4.0)


def test_a_tool_that_cannot_be_installed_is_missing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(public_tool, "HOME", tmp_path / "file" / "venv")

    with pytest.raises(ToolMissing, match="ended with"):
        public_tool.installed()
