"""What the router makes of what engines say."""

import pytest

from engines.emulator.jobs import FailureCause, RefusalCause, Refused
from engines.emulator.spec import HEALTHY
from policies.facts import FailureKind
from router.simulation.machine import failure_kind, faults_of, refusal_kind
from router.workload.settings import Fault, FaultName


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        (Refused(RefusalCause.OVERLOADED, 429), FailureKind.BUSY),
        (Refused(RefusalCause.QUEUE_FULL, 503), FailureKind.BUSY),
        (Refused(RefusalCause.TOO_LONG, 400), FailureKind.REJECTED),
        (Refused(RefusalCause.DEAD), FailureKind.NOT_REACHED),
        (Refused(RefusalCause.DRAINING, 500), FailureKind.BROKEN),
        (Refused(RefusalCause.TOLD_TO, 429), FailureKind.BUSY),
        (Refused(RefusalCause.TOLD_TO, 500), FailureKind.BROKEN),
    ],
)
def test_only_want_of_room_is_no_sickness(refused, kind):
    assert refusal_kind(refused) is kind


@pytest.mark.parametrize("cause", list(FailureCause))
def test_only_being_pushed_out_of_a_queue_is_no_failure_of_the_engine(cause):
    busy = cause is FailureCause.EVICTED

    assert failure_kind(cause) is (FailureKind.BUSY if busy else FailureKind.BROKEN)


@pytest.mark.parametrize("name", list(FaultName))
def test_every_fault_of_a_workload_breaks_something(name):
    assert faults_of(Fault(endpoint="x", fault=name, at_s=0.0)) != HEALTHY
