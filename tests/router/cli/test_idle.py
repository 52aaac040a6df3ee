"""Shares that nobody takes are told after a change, each once, and no others."""

from router.cli.idle import idle_shares


def pools(**states):
    endpoints = [{"id": id_, "now": state and {"state": state}} for id_, state in states.items()]
    return [{"name": "bulk", "models": ["m"], "endpoints": endpoints}]


def divided(**variants):
    return {"m": {"variants": variants}}


def variant(share, *endpoints, pool_names=()):
    return {"share": share, "endpoints": list(endpoints), "pools": list(pool_names)}


def test_a_share_of_endpoints_that_take_requests_is_not_told():
    models = divided(fresh=variant(0.1, "b"))

    assert list(idle_shares(models, pools(a="up", b="suspect"))) == []


def test_a_rest_whose_only_endpoint_is_drained_is_told():
    models = divided(fresh=variant(0.1, "b"))

    (told,) = idle_shares(models, pools(a="draining", b="up"))
    assert told.startswith("90 % of m are for rest, of which no endpoint takes requests")


def test_a_variant_that_is_down_or_gone_is_told():
    models = divided(fresh=variant(0.1, "b"), lost=variant(0.2, "c"))
    told = list(idle_shares(models, pools(a="up", b="down")))

    assert [each.split(",")[0] for each in told] == [
        "10 % of m are for fresh",
        "20 % of m are for lost",
    ]


def test_a_share_of_nothing_is_not_told_whoever_is_down():
    models = divided(fresh=variant(0.0, "b"), whole=variant(1.0, pool_names=["bulk"]))

    assert list(idle_shares(models, pools(a="up", b="down"))) == []


def test_a_variant_that_is_another_model_is_served_wherever_that_one_is():
    models = {"m": {"variants": {"tuned": {"share": 0.5, "model": "m-tuned"}}}}

    assert list(idle_shares(models, pools(a="up"))) == []
