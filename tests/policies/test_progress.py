from math import inf

import pytest

from policies.progress import Progress


def test_what_has_nothing_to_do_does_not_stand_still():
    assert Progress().still_s(1000.0) == 0.0


def test_a_stream_that_waits_for_its_first_token_ought_to_move():
    progress = Progress()
    progress.began(10.0, streams=True)

    assert progress.still_s(11.5) == 1.5


def test_a_new_request_is_not_blamed_for_a_silence_before_it():
    progress = Progress()
    progress.began(0.0, streams=False)
    progress.began(10.0, streams=True)

    assert progress.still_s(10.5) == 0.5


def test_a_token_of_any_stream_is_a_sign_of_life():
    progress = Progress()
    progress.began(0.0, streams=True)
    progress.began(0.0, streams=True)
    progress.first_token(2.0)
    progress.tokens(3, 0.1, 4.0)

    assert progress.still_s(5.0) == 1.0


def test_answers_that_come_as_a_whole_show_nothing_unless_the_engine_counts():
    progress = Progress()
    progress.began(0.0, streams=False)
    silent = progress.still_s(60.0)
    progress.counted(5.0, 60.0)
    progress.counted(5.0, 61.0)
    progress.counted(5.0, 63.0)

    assert (silent, progress.still_s(64.0)) == (0.0, 3.0)


def test_a_counter_that_moves_is_a_sign_of_life():
    progress = Progress()
    progress.counted(1.0, 0.0)
    progress.began(0.0, streams=True)
    progress.counted(1.0, 1.0)
    progress.counted(2.0, 2.0)

    assert progress.still_s(2.5) == 0.5
    assert progress.read_every_s == 1.0


def test_an_engine_without_a_counter_is_not_seen_to_move():
    progress = Progress()
    progress.began(0.0, streams=True)
    progress.counted(None, 1.0)

    assert progress.still_s(2.0) == 2.0


def test_a_stream_that_nobody_reads_need_not_move():
    progress = Progress()
    progress.began(0.0, streams=True)
    progress.first_token(1.0)
    progress.unread()
    unread = progress.still_s(50.0)
    progress.read_on(50.0)

    assert (unread, progress.still_s(51.0)) == (0.0, 1.0)


@pytest.mark.parametrize(("streams", "begun"), [(True, True), (True, False), (False, False)])
def test_when_all_have_ended_nothing_ought_to_move(streams, begun):
    progress = Progress()
    progress.began(0.0, streams=streams)
    if begun:
        progress.first_token(0.0)
    progress.ended(streams=streams, begun=begun)

    assert progress.still_s(9.0) == 0.0
    assert progress.work_since == inf


def test_the_speed_is_that_of_late():
    progress = Progress()
    for number in range(20):
        progress.tokens(10, 0.1, number * 0.1)
    fast = progress.per_token_s(2.0)
    for number in range(20):
        progress.tokens(1, 0.1, 4.0 + number * 0.1)
    slow = progress.per_token_s(6.0)

    assert fast == pytest.approx(0.01)
    assert slow == pytest.approx(0.1, rel=0.35)


def test_a_few_tokens_tell_no_speed():
    progress = Progress()
    progress.tokens(2, 1.0, 0.0)

    assert progress.per_token_s(0.0) is None


def test_a_speed_is_forgotten_on_demand():
    progress = Progress()
    progress.tokens(50, 5.0, 0.0)
    progress.forget_speed()

    assert progress.per_token_s(0.0) is None


def test_a_short_prompt_of_a_whole_answer_excuses_no_silence():
    progress = Progress()
    progress.reading.saw(100, 100, 0.1)
    progress.began(0.0, streams=True)
    progress.first_token(0.1)
    progress.began(1.0, streams=False, prompt_tokens=100)

    assert progress.still_s(1.5) == 1.4


def test_what_was_thought_long_is_judged_anew_as_more_is_known():
    progress = Progress()
    progress.began(0.0, streams=True)
    progress.first_token(0.0)
    progress.began(0.0, streams=False, prompt_tokens=5000)
    unknown = progress.still_s(4.0), progress.unread_tokens(4.0)
    progress.reading.saw(5000, 5000, 0.2)

    assert unknown == (0.0, 5000)
    assert (progress.still_s(4.0), progress.unread_tokens(4.0)) == (4.0, 0)
