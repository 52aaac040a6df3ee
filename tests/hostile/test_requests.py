"""Hostile requests, straight to the router and with a real nginx or HAProxy before or behind it.

Nobody ever makes two requests of what another took for one, and nobody hears another's bytes.
"""

from collections import Counter
from urllib.parse import unquote_to_bytes

import pytest
import uvloop

from router.intake_headers import INTERNAL_HEADERS
from tests.hostile.calling import NEVER_ENDED, answers
from tests.hostile.case import own
from tests.hostile.corpus import CASES
from tests.hostile.proxies import FRONT_HEADER
from tests.hostile.record import WAYS, Record, marked, run, watched

FRONT = FRONT_HEADER.encode()
pytestmark = pytest.mark.timeout(120)  # thousands of connections, some of which wait for their end


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    seen = Record(CASES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("router.app.Inbound", watched(seen))
        uvloop.run(run(seen, tmp_path_factory.mktemp("proxies")))
    return seen


@pytest.fixture(params=WAYS)
def way(request, record):
    if request.param not in record.ways:
        pytest.skip(f"{request.param.split()[-1]} is not installed")
    return request.param


def test_the_corpus_is_large_and_no_two_of_its_cases_are_alike():
    assert len(CASES) >= 300
    assert max(Counter(case.name for case in CASES).values()) == 1
    assert max(Counter(case.data for case in CASES).values()) == 1


def test_every_case_is_answered_as_it_should_be(record):
    reached = record.reached()
    wrong = []
    for number, case in zip(record.numbers("direct"), CASES, strict=True):
        heard = answers(record.heard[number], heads_only=case.data.startswith(b"HEAD"))
        statuses = tuple(each.status for each in heard)
        if (statuses, reached.get(number, 0)) != (case.answers, case.reaches):
            wrong.append((case.name, statuses, reached.get(number, 0)))

    assert wrong == []


def test_nobody_hears_anothers_bytes(record, way):
    mixed = [
        record.of(number)
        for number in (*record.numbers(way), *record.victims(way))
        if marked(record.heard[number]) - {number}
    ]

    assert mixed == []


def test_every_connection_ends(record, way):
    kept = [
        record.of(number)
        for number in (*record.numbers(way), *record.victims(way))
        if record.heard[number].endswith(NEVER_ENDED)
    ]

    assert kept == []


def test_whoever_comes_after_a_hostile_request_is_answered(record, way):
    unheard = [
        (record.of(number), record.heard[number][:300])
        for number in record.victims(way)
        if not record.heard[number].startswith(b"HTTP/1.1 200 ")
        or own(number) not in record.heard[number]
    ]

    assert unheard == []


def test_the_router_begins_one_request_where_a_proxy_passed_one_on(record):
    passed_on = [each for each in record.begun if each.values(FRONT)]
    names = Counter(each.values(FRONT)[0] for each in passed_on)
    numbers = {
        number
        for way in record.ways
        if way.startswith("through")
        for number in (*record.numbers(way), *record.victims(way))
    }
    smuggled = [each for each in record.begun if each.numbers & numbers and not each.values(FRONT)]

    assert [name for name, count in names.items() if count > 1] == []
    assert [each for each in passed_on if len(each.values(FRONT)) > 1] == []
    assert smuggled == []
    assert passed_on or len(record.ways) == 1


def test_no_request_is_put_together_from_two(record):
    assert [each for each in record.begun if len(each.numbers) > 1] == []


def test_what_reaches_an_engine_is_what_the_router_began(record):
    began = Counter(each.body for each in record.begun if each.method == b"POST")
    reached = Counter(each.body for each in record.calls)

    assert reached - began == Counter()


def test_no_proxy_behind_the_router_makes_two_requests_of_one(record):
    reached = record.reached()
    for way in record.ways:
        for number, case in zip(record.numbers(way), CASES, strict=True):
            assert reached.get(number, 0) <= case.reaches or way.startswith("through"), record.of(
                number
            )


def test_an_engine_gets_one_length_one_host_and_nothing_that_was_meant_for_the_router(record):
    kept_back = {name.decode() for name in INTERNAL_HEADERS} - {"host", "content-length"}
    # A proxy between router and engine has a `Connection` of its own.
    direct = [each for each in record.calls if not marked(each.body) & _behind_proxies(record)]

    assert direct
    for each in direct:
        names = Counter(name for name, _ in each.headers)
        assert (names["host"], names["content-length"], names["content-type"]) == (1, 1, 1)
        assert not kept_back & names.keys(), each.head
        assert not [name for name in names if "_" in name]


def _behind_proxies(record):
    return {
        number
        for way in record.ways
        if way.startswith("before")
        for number in (*record.numbers(way), *record.victims(way))
    }


def test_no_way_leads_past_a_proxys_rule_to_administration(record):
    behind = [
        each.target
        for each in record.begun
        if each.values(FRONT) and unquote_to_bytes(each.target).lstrip(b"/").startswith(b"admin")
    ]

    assert behind == []
