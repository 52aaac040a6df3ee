from tests.policies.fault_world import play


def test_whoever_breaks_is_noticed_and_nobody_else_is_taken_out():
    tally = play(range(60))

    assert tally.judged > 10
    assert (tally.false, tally.missed, tally.late) == (0, 0, 0), tally.why


def test_no_engine_that_gives_nobody_a_token_while_it_reads_a_long_prompt_is_taken_out():
    tally = play(range(60), reads_slowly=True)

    assert tally.healthy > 150
    assert tally.false == 0, tally.why
