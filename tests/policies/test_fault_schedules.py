from tests.policies.fault_world import play


def test_whoever_breaks_is_noticed_and_nobody_else_is_taken_out():
    tally = play(range(120))

    assert tally.judged > 30
    assert (tally.false, tally.missed, tally.late) == (0, 0, 0), tally.why
