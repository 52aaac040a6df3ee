"""The configuration file: what it means, and what is said of a wrong one."""

import sys
import tomllib
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, get_args

import pytest
import trustme
from annotated_types import MultipleOf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict

from engines.engine import Kind
from policies.facts import Profile, SlaClass, Targets
from policies.keys import Entitlement
from policies.policy import ModelPolicy, Policy
from router import toml
from router.config import Config, describe, load, read_secrets
from router.document import FORBIDDING, ConfigError, Document
from router.settings import (
    Access,
    Admin,
    Endpoint,
    Level,
    Pool,
    Redis,
    Server,
    Signing,
    State,
    Tls,
    Tracing,
)

FAST = """
[[pools]]
name = "fast"
profile = "predictable"
models = ["llama-3.1-8b"]
endpoints = [{ engine = "tgi", url = "http://10.0.0.1:8000" }]
"""
BULK = """
[[pools]]
name = "bulk"
profile = "throughput"
models = ["llama-3.1-8b"]
endpoints = [{ engine = "vllm", url = "http://10.0.0.2:8000" }]
"""


def pool(**keys: str) -> str:
    """Return a pool with one endpoint; values are TOML, None leaves a key out."""
    whole = {
        "name": '"fast"',
        "profile": '"predictable"',
        "models": '["llama"]',
        "endpoints": '[{ engine = "tgi", url = "http://10.0.0.1:8000" }]',
    }
    lines = [f"{key} = {value}" for key, value in (whole | keys).items()]
    return "\n".join(["[[pools]]", *lines, ""])


def endpoint(**keys: str) -> str:
    """Return a pool whose one endpoint has these keys; values are TOML."""
    whole = {"engine": '"tgi"', "url": '"http://10.0.0.1:8000"'} | keys
    pairs = ", ".join(f"{key} = {value}" for key, value in whole.items())
    return pool(endpoints=f"[{{ {pairs} }}]")


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a file and returns its path."""

    def write(text: str, name: str = "headway.toml") -> Path:
        path: Path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def flaws(written):
    """Return a function that gives the sentences said of a wrong file."""

    def said(text: str, environ: dict[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(written(text), environ or {})
        return caught.value.sentences()

    return said


def test_the_shortest_file_means_what_the_defaults_say(written):
    config = load(written(FAST), {})

    assert config == Config(
        pools=(
            Pool(
                "fast",
                Profile.PREDICTABLE,
                ("llama-3.1-8b",),
                (Endpoint("fast-0", Kind.TGI, "http://10.0.0.1:8000", max_in_flight=32),),
                max_in_flight=32,
            ),
        )
    )
    assert config.policy == Policy()
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8080)


def test_every_section_is_read_and_paths_start_at_the_file(written, tmp_path):
    (tmp_path / "admin.token").write_text("secret\n")
    text = """
        server = { host = "::", port = 0, log_level = "debug", limits = { drain_s = 0 } }
        admin = { token_file = "admin.token", port = 9000 }
        access = { open = true, trusted_proxies = ["10.0.0.0/8"] }
        redis = { url = "redis://cache:6379/1" }
        state = { directory = "kept" }
        timeouts = { total_s = 3 }
        metrics = { max_models = 3 }
        tracing = { endpoint = "http://collector:4318", sample = 0.1 }
        """
    config = load(written(text + FAST), {})
    limits = replace(Server().limits, drain_s=0.0)

    assert config.server == Server("::", 0, log_level=Level.DEBUG, limits=limits)
    assert config.access == Access(open=True, trusted_proxies=("10.0.0.0/8",))
    assert config.admin == Admin(tmp_path / "admin.token", port=9000)
    assert config.redis == Redis("redis://cache:6379/1")
    assert config.state == State(tmp_path / "kept")
    assert (config.timeouts.total_s, config.timeouts.connect_s) == (3.0, 2.0)
    assert config.metrics.max_models == 3
    assert config.tracing == Tracing("http://collector:4318/v1/traces", sample=0.1)


def test_every_key_of_an_endpoint_is_read(written, tmp_path):
    (tmp_path / "key").write_text("sk-1")
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    text = endpoint(
        id='"a"',
        engine='"sglang"',
        url='"https://gpu.example/base/"',
        weight="2",
        max_in_flight="5",
        model='"own-name"',
        honours_priority="true",
        max_context_tokens="4096",
        api_key_file='"key"',
        labels='{ rack = "r1" }',
    )
    (read,) = load(written(text + 'tls = { verify = false, ca_file = "ca.pem" }'), {}).pools

    assert read.tls == Tls(verify=False, ca_file=tmp_path / "ca.pem")
    assert read.endpoints == (
        Endpoint(
            "a",
            Kind.SGLANG,
            "https://gpu.example/base",
            max_in_flight=5,
            weight=2.0,
            model="own-name",
            honours_priority=True,
            max_context_tokens=4096,
            api_key_file=tmp_path / "key",
            labels={"rack": "r1"},
        ),
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, 32),
        ({"profile": '"throughput"'}, 256),
        ({"max_in_flight": "7"}, 7),
        ({"profile": '"throughput"', "max_in_flight": "7"}, 7),
    ],
    ids=["predictable", "throughput", "the pool's", "the pool's, throughput"],
)
def test_an_endpoint_without_a_cap_has_its_pools_or_its_profiles(written, keys, expected):
    (read,) = load(written(pool(**keys)), {}).pools

    assert read.endpoints[0].max_in_flight == expected


def test_endpoints_without_a_name_are_numbered_in_their_pool(written):
    engines = ", ".join('{ engine = "vllm", url = "http://h" }' for _ in range(3))
    name = "p" * 64
    (read,) = load(written(pool(name=f'"{name}"', endpoints=f"[{engines}]")), {}).pools

    assert [each.id for each in read.endpoints] == [f"{name[:48]}-{number}" for number in range(3)]


def test_models_are_listed_once_in_the_files_order(written):
    text = pool(models='["b", "a"]') + pool(name='"bulk"', models='["a", "c"]')

    assert load(written(text), {}).models == ("b", "a", "c")


def test_changing_one_key_of_a_class_leaves_its_other_defaults(written):
    text = "[policy.classes.interactive]\nmax_waiting = 3\ntargets = { first_token_s = 0.2 }"
    policy = load(written(FAST + text), {}).policy
    ordinary = Policy().classes.interactive

    assert policy.classes.interactive == replace(
        ordinary, max_waiting=3, targets=replace(ordinary.targets, first_token_s=0.2)
    )
    assert policy.classes.bulk == Policy().classes.bulk


def test_a_model_has_a_policy_of_its_own(written):
    text = '[policy.models."llama-3.1-8b"]\ndefault_class = "bulk"\nbulk = { deadline_s = 9 }'

    assert load(written(FAST + text), {}).policy.models == {
        "llama-3.1-8b": ModelPolicy(SlaClass.BULK, bulk=Targets(deadline_s=9.0))
    }


def test_none_takes_a_default_away(written):
    text = '[policy.profiles.predictable]\nmax_prompt_tokens = "none"'
    policy = load(written(FAST + text), {}).policy

    assert Policy().profiles.predictable.max_prompt_tokens is not None
    assert policy.profiles.predictable.max_prompt_tokens is None


def test_what_is_described_loads_as_the_same(written, tmp_path):
    (tmp_path / "admin.token").write_text("secret")
    text = """
        admin = { token_file = "admin.token" }
        redis = { url = "redis://cache" }
        [policy.profiles.predictable]
        max_prompt_tokens = "none"
        [policy.models."llama-3.1-8b"]
        default_class = "bulk"
        """
    labelled = endpoint(labels='{ "a b" = "\\u0001\\u007f\\"é" }').replace("llama", "llama-3.1-8b")
    config = load(written(text + labelled + BULK.replace("bulk", "more")), {})

    assert load(written(describe(config), "again.toml"), {}) == config


def test_a_description_holds_every_key_and_no_secret(written, tmp_path):
    (tmp_path / "admin.token").write_text("s3cret-token")
    trustme.CA().issue_cert("r").private_key_and_cert_chain_pem.write_to_path(tmp_path / "r.pem")
    text = """
        admin = { token_file = "admin.token" }
        redis = { url = "redis://cache" }
        tracing = { headers_env = "SHOWN" }
        server = { tls = { cert_file = "r.pem", key_file = "r.pem" } }
        [access.tenants.acme]
        tokens_per_day = 1000000
        [access.jwt]
        issuer = "https://id.example"
        audience = ["headway"]
        jwks = "https://id.example/keys"
        """
    config = load(
        written(text + endpoint(api_key_env='"KEY"')),
        {
            "KEY": "s3cret-key",
            "SHOWN": "authorization=s3cret-header",
            "HEADWAY_REDIS_PASSWORD": "s3cret-password",
            "HEADWAY_ACCESS_PEPPER": "s3cret-pepper",
        },
    )
    description = describe(config)

    assert "s3cret" not in description
    assert keys_of(Config) <= all_keys(tomllib.loads(description))


def keys_of(kind: object) -> set[str]:
    """Return the names of all fields of a dataclass and those inside it, mappings' values aside."""
    if isinstance(kind, type) and is_dataclass(kind):
        inside = [keys_of(field.type) | {field.name} for field in fields(kind)]
        return set().union(*inside) - {"state", "directory"}
    return set().union(*(keys_of(each) for each in get_args(kind) if "Model" not in str(each)))


def all_keys(document: object) -> set[str]:
    match document:
        case dict():
            return set(document).union(*map(all_keys, document.values()))
        case list():
            return set().union(*map(all_keys, document))
        case _:
            return set()


WRONG = {
    "unknown key, one near": (
        FAST + "[server]\nprot = 1",
        "headway.toml.server: unknown key 'prot'; known: port",
    ),
    "unknown key, none near": (
        FAST + "[metrics]\nzzz = 1",
        "headway.toml.metrics: unknown key 'zzz'; known: max_models",
    ),
    "unknown key of tracing": (
        FAST + "[tracing]\nsampel = 1",
        "headway.toml.tracing: unknown key 'sampel'; known: sample",
    ),
    "more than all": (
        FAST + "[tracing]\nsample = 1.5",
        "headway.toml.tracing.sample: must be 1.0 or less, not 1.5",
    ),
    "unknown key of a pool": (
        pool(polcy="1"),
        (
            "headway.toml.pools[0]: unknown key 'polcy'; known: "
            "endpoints, max_in_flight, models, name, profile, tls"
        ),
    ),
    "unknown key of a policy": (
        FAST + '[policy.models."a.b"]\nkv_ful = 1',
        (
            "headway.toml.policy.models.\"a.b\": unknown key 'kv_ful'; known: "
            "bulk, default_class, interactive, shadow, standard, sticky, variants"
        ),
    ),
    "a secret where a place is wanted": (
        endpoint(api_key='"sk-1"'),
        (
            "headway.toml.pools[0].endpoints[0]: unknown key 'api_key'; known: "
            "api_key_env, api_key_file"
        ),
    ),
    "missing": (
        '[[pools]]\nname = "a"\nprofile = "predictable"\nmodels = ["m"]',
        "headway.toml.pools[0].endpoints: is missing",
    ),
    "missing, one of few": (
        pool(endpoints='[{ url = "http://h" }]'),
        (
            "headway.toml.pools[0].endpoints[0].engine: is missing; "
            "it is one of vllm, tgi, sglang, llamacpp, openai"
        ),
    ),
    "none of few": (
        pool(profile='"fast"'),
        "headway.toml.pools[0].profile: must be 'predictable' or 'throughput', not \"fast\"",
    ),
    "a boolean is no number": (
        FAST + "[server]\nport = true",
        "headway.toml.server.port: must be a whole number, not true",
    ),
    "text is no number": (
        FAST + '[server]\nport = "80"',
        'headway.toml.server.port: must be a whole number, not "80"',
    ),
    "a number is no boolean": (
        FAST + "[server]\nshow_routing = 1",
        "headway.toml.server.show_routing: must be true or false, not 1",
    ),
    "not whole": (
        FAST + "[server]\nport = 1.5",
        "headway.toml.server.port: must be a whole number, not 1.5",
    ),
    "not finite": (
        endpoint(weight="inf"),
        "headway.toml.pools[0].endpoints[0].weight: must be a finite number, not Infinity",
    ),
    "too small": (
        endpoint(weight="0"),
        "headway.toml.pools[0].endpoints[0].weight: must be more than 0.0, not 0",
    ),
    "too large": (
        FAST + "[server]\nport = 65536",
        "headway.toml.server.port: must be 65535 or less, not 65536",
    ),
    "no table": (
        "server = 3\n" + FAST,
        "headway.toml.server: must be a table, not 3",
    ),
    "no array": (
        pool(models='"llama"'),
        'headway.toml.pools[0].models: must be an array, not "llama"',
    ),
    "no pools": ("pools = []", "headway.toml.pools: must be at least 1 long, not []"),
    "no models": (
        pool(models="[]"),
        "headway.toml.pools[0].models: must be at least 1 long, not []",
    ),
    "a long value": (
        FAST + f'[server]\nport = "{"x" * 100}"',
        f'headway.toml.server.port: must be a whole number, not "{"x" * 56}...',
    ),
    "a wrong pool cap is said once": (
        pool(max_in_flight="0"),
        "headway.toml.pools[0].max_in_flight: must be 1 or more, not 0",
    ),
    "a wrong pool name is said once": (
        pool(name='"a b"'),
        (
            "headway.toml.pools[0].name: must be letters, digits, '.', '_' and '-', 64 at most and "
            "the first a letter or digit, not 'a b'"
        ),
    ),
    "a pool is a table": ("pools = [3]", "headway.toml.pools[0]: must be a table, not 3"),
    "an endpoint is a table": (
        pool(endpoints="[3]"),
        "headway.toml.pools[0].endpoints[0]: must be a table, not 3",
    ),
    "a pool's name twice": (
        FAST + pool(endpoints='[{ id = "b", engine = "tgi", url = "http://h" }]'),
        "headway.toml.pools[1].name: 'fast' is taken by pools[0].name; give this one another",
    ),
    "an endpoint's id twice": (
        FAST + BULK.replace("{ engine", '{ id = "fast-0", engine'),
        (
            "headway.toml.pools[1].endpoints[0].id: 'fast-0' is taken by pools[0].endpoints[0].id; "
            "give this one another"
        ),
    ),
    "a policy for a model that no pool serves": (
        FAST + "[policy.models.llama]\ndefault_class = 'bulk'",
        "headway.toml.policy.models.llama: unknown model 'llama'; known: llama-3.1-8b",
    ),
    "one upstream name for two models": (
        endpoint(model='"x"').replace('["llama"]', '["a", "b"]'),
        "headway.toml.pools[0].endpoints[0].model: renames one model, but pool 'fast' serves 2",
    ),
    "several workers alone": (
        FAST + "[server]\nworkers = 2",
        (
            "headway.toml.server.workers: more than one process needs a [redis] section, "
            "through which they agree"
        ),
    ),
    "not TOML": (
        "a = ",
        "headway.toml: is not TOML: invalid value (at end of document)",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_sentence_with_its_place_and_what_would_be_right(flaws, text, sentence):
    assert flaws(text) == [sentence]


def test_all_mistakes_are_told_at_once(flaws):
    wrong = pool(profile='"x"', models="3", oops="1") + "[server]\nport = -1\nworkers = 2.5"

    assert [sentence.split(": ")[0] for sentence in flaws(wrong)] == [
        "headway.toml.server.port",
        "headway.toml.server.workers",
        "headway.toml.pools[0].profile",
        "headway.toml.pools[0].models",
        "headway.toml.pools[0]",
    ]


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "missing.toml"
    with pytest.raises(ConfigError) as caught:
        load(path, {})

    assert str(caught.value) == (
        f"missing.toml: cannot be read: no such file or directory ({path})"
    )


def test_a_file_in_another_encoding_is_told(tmp_path):
    path = tmp_path / "headway.toml"
    path.write_bytes(b'name = "\xe9"')
    with pytest.raises(ConfigError, match=r"headway\.toml: is not UTF-8: .* at byte 8"):
        load(path, {})


BAD_URLS = {
    "ftp://h": "'ftp://h' is neither http nor https",
    "10.0.0.1:8000": "'10.0.0.1:8000' is neither http nor https",
    "http://": "'http://' names no host",
    "http:///x": "'http:///x' names no host",
    "http://h:99999": "'http://h:99999': port out of range 0-65535",
    "http://h:x": "'http://h:x': port could not be cast to integer value as 'x'",
    "http://[::1": "'http://[::1': invalid ipv6 url",
    "http://u:p@h": "holds a user name or password; name a key with api_key_env instead",
    "http://h/?a=1": "'http://h/?a=1' has something after the path",
    "http://h/#": "'http://h/#' has something after the path",
    "http://h /": "'http://h /' holds a character that no url may",
    "http://h\n": "'http://h\\n' holds a character that no url may",
    "http://é": "'http://é' holds a character that no url may",
    "http://h/v1": "'http://h/v1' ends in '/v1', which every route adds itself; leave it out",
    "http://h/x/v1/": "'http://h/x/v1/' ends in '/v1', which every route adds itself",
}


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_leads_to_no_engine_is_refused(flaws, url):
    (sentence,) = flaws(endpoint(url=toml._quoted(url)))

    assert sentence.startswith(f"headway.toml.pools[0].endpoints[0].url: {BAD_URLS[url]}")


@pytest.mark.parametrize(
    "url", ["http://h", "https://h:443", "http://[::1]:8000", "http://h/base/path", "http://a_b"]
)
def test_a_good_url_is_kept_but_for_a_slash_at_its_end(written, url):
    for given_url in (url, f"{url}/"):
        (read,) = load(written(endpoint(url=f'"{given_url}"')), {}).pools

        assert read.endpoints[0].url == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", "starts with 'http', not redis, rediss or unix"),
        ("redis://:pw@h", "holds a password; name it with password_env or password_file instead"),
        ("redis://", "'redis://' names no host"),
        ("redis+ring://h", "starts with 'redis+ring', not redis or rediss with +sentinel or"),
        ("unix+cluster://h", "starts with 'unix+cluster', not redis or rediss with +sentinel"),
        ("redis+sentinel://h:1,i:2", "'redis+sentinel://h:1,i:2' names no service after the"),
        ("redis+sentinel://h:1,:2/m", "'redis://:2' names no host"),
        ("redis+cluster://u:pw@h:1", "holds a password; name it with password_env or"),
        ("redis+cluster://h:x", "'redis://h:x': port could not be cast to integer value"),
    ],
)
def test_a_redis_url_that_cannot_be_is_refused(flaws, url, said):
    (sentence,) = flaws(FAST + f'[redis]\nurl = "{url}"')

    assert sentence.startswith(f"headway.toml.redis.url: {said}")
    assert "pw" not in sentence.replace("password", "")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("grpc://h:4317", "'grpc://h:4317' is neither http nor https; a collector's url is like"),
        ("http://:4318", "'http://:4318' names no host; a collector's url is like"),
        ("http://u:pw@h", "holds a user name or password; name a header with headers_env instead"),
        ("http://h/v1/traces?x=1", "'http://h/v1/traces?x=1' has something after the path"),
    ],
)
def test_a_collectors_url_that_cannot_be_is_refused(flaws, url, said):
    (sentence,) = flaws(FAST + f'[tracing]\nendpoint = "{url}"')

    assert sentence.startswith(f"headway.toml.tracing.endpoint: {said}")
    assert "pw" not in sentence.replace("password", "")


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("https://h/", "https://h/v1/traces"),
        ("https://h/otlp/v1/traces", "https://h/otlp/v1/traces"),
    ],
)
def test_a_collectors_url_without_a_path_gets_the_usual_one(written, url, meant):
    tracing = load(written(FAST + f'[tracing]\nendpoint = "{url}"'), {}).tracing

    assert tracing is not None
    assert tracing.endpoint == meant


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://10.0.0.1,10.0.0.2:26380/mymaster/1",
        "rediss+sentinel://user@10.0.0.1/mymaster",
        "redis+cluster://10.0.0.1:6379,10.0.0.2:6379",
    ],
)
def test_redis_may_be_several_servers(written, url):
    config = load(written(FAST + f'[redis]\nurl = "{url}"'), {})

    assert config.redis == Redis(url)


def test_redis_may_be_a_socket(written):
    config = load(written(FAST + '[redis]\nurl = "unix:///run/redis.sock"'), {})

    assert config.redis == Redis("unix:///run/redis.sock")


def test_secrets_are_read_where_the_file_says(written, tmp_path):
    (tmp_path / "admin.token").write_text("  from-a-file \n")
    (tmp_path / "redis.password").write_text("pw")
    first = "{ id = 'a', engine = 'tgi', url = 'http://h', api_key_env = 'KEY' }"
    second = "{ id = 'b', engine = 'tgi', url = 'http://i' }"
    text = f"""
        admin = {{ token_file = "admin.token" }}
        redis = {{ url = "redis://h", password_file = "redis.password" }}
        {pool(endpoints=f"[{first}, {second}]")}
        """
    environ = {"KEY": "sk-1", "HEADWAY_ADMIN_TOKEN": "unused", "HEADWAY_REDIS_PASSWORD": "unused"}
    secrets = read_secrets(load(written(text), environ), environ)

    assert (secrets.admin_token, secrets.redis_password) == ("from-a-file", "pw")
    assert secrets.api_keys == {"a": "sk-1"}
    assert "sk-1" not in repr(secrets)
    assert "from-a-file" not in repr(secrets)


@pytest.mark.parametrize(
    ("section", "environ"),
    [
        ("", {"HEADWAY_REDIS_PASSWORD": "pw", "HEADWAY_ADMIN_TOKEN": "token"}),
        (", password_env = 'PW'", {"PW": "pw", "HEADWAY_ADMIN_TOKEN": "token"}),
    ],
    ids=["by the usual name", "by another name"],
)
def test_secrets_are_read_from_the_environment(written, section, environ):
    text = f"admin = {{}}\nredis = {{ url = 'redis://h'{section} }}\n{FAST}"
    secrets = read_secrets(load(written(text), environ), environ)

    assert (secrets.admin_token, secrets.redis_password) == ("token", "pw")


def test_redis_may_have_no_password(written):
    config = load(written(FAST + '[redis]\nurl = "redis://h"'), {})

    assert read_secrets(config, {}).redis_password is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "admin = {}\n" + FAST,
            "admin: has no token; name a file with token_file or set HEADWAY_ADMIN_TOKEN",
        ),
        (
            endpoint(api_key_env='"NOT_SET"'),
            "pools[0].endpoints[0].api_key_env: the environment variable 'NOT_SET' is not set",
        ),
        (
            endpoint(api_key_env='"EMPTY"'),
            "pools[0].endpoints[0].api_key_env: the environment variable 'EMPTY' is empty",
        ),
        (
            endpoint(api_key_env='"TWO_LINES"'),
            (
                "pools[0].endpoints[0].api_key_env: the environment variable 'TWO_LINES' holds a "
                "character that no header can carry"
            ),
        ),
        (
            endpoint(api_key_env='"EMPTY"', api_key_file='"/dev/null"'),
            "pools[0].endpoints[0].api_key_file: leave either this or api_key_env out",
        ),
        (
            endpoint(api_key_file='"/nowhere"'),
            (
                "pools[0].endpoints[0].api_key_file: '/nowhere' cannot be read: "
                "no such file or directory"
            ),
        ),
        (
            endpoint(api_key_file='"/dev/null"'),
            "pools[0].endpoints[0].api_key_file: '/dev/null' is empty",
        ),
    ],
    ids=["no token", "not set", "empty", "two lines", "both", "no file", "empty file"],
)
def test_a_secret_that_is_not_there_is_told_and_never_shown(flaws, text, sentence):
    said = flaws(text, {"EMPTY": " ", "TWO_LINES": "s3cret\nline"})

    assert said[0] == f"headway.toml.{sentence}"
    assert "s3cret" not in "".join(said)


@pytest.mark.parametrize(
    ("held", "headers"),
    [
        ("authorization=Bearer%20k", {"authorization": "Bearer k"}),
        ("authorization=Bearer k, x-team = a=b", {"authorization": "Bearer k", "x-team": "a=b"}),
    ],
)
def test_headers_for_a_collector_are_read_as_others_read_them(written, held, headers):
    config = load(written(FAST + '[tracing]\nheaders_env = "SHOWN"'), {"SHOWN": held})

    assert read_secrets(config, {"SHOWN": held}).tracing_headers == headers


@pytest.mark.parametrize(
    "held", ["", "s3cret", "=s3cret", "a b=s3cret", "a=", "a=s3cret%0d", "a=s3cret,"]
)
def test_headers_for_a_collector_that_cannot_be_are_told_and_never_shown(flaws, held):
    (sentence,) = flaws(FAST + '[tracing]\nheaders_env = "SHOWN"', {"SHOWN": held})

    assert sentence == (
        "headway.toml.tracing.headers_env: the environment variable 'SHOWN' must hold"
        " 'authorization=Bearer%20key', and a comma before the next"
    )


def test_headers_for_a_collector_that_are_not_there_are_told(flaws):
    (sentence,) = flaws(FAST + '[tracing]\nheaders_env = "SHOWN"')

    assert sentence.endswith("headers_env: the environment variable 'SHOWN' is not set")


def test_a_secret_in_another_encoding_is_told(flaws, tmp_path):
    (tmp_path / "key").write_bytes(b"\xff\xfe")

    assert flaws(endpoint(api_key_file='"key"'))[0].endswith("cannot be read: it is not utf-8")


def test_a_secret_that_is_gone_by_the_time_it_is_needed_is_told(written):
    config = load(written(endpoint(api_key_env='"KEY"')), {"KEY": "sk-1"})
    with pytest.raises(ConfigError, match="environment variable 'KEY' is not set"):
        read_secrets(config, {})


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
    max_leaves=8,
)  # fmt: skip


def without_none(value: object) -> object:
    """Return a value as TOML can hold it."""
    match value:
        case None:
            return "none"
        case dict():
            return {key: without_none(each) for key, each in value.items()}
        case list():
            return [without_none(each) for each in value]
        case _:
            return value


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), PLAIN, max_size=5))
def test_whatever_is_written_as_toml_is_read_back(document):
    assert tomllib.loads(toml.text(document)) == without_none(document)


JUNK = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.sampled_from(["none", "tgi", "bulk", "http://h"]),
    lambda inside: (
        st.lists(inside, max_size=2)
        | st.dictionaries(
            st.sampled_from(["pools", "name", "endpoints", "url", "policy", "models", "server"]),
            inside,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.sampled_from([*(field.name for field in fields(Config)), "x"]), JUNK, max_size=4
    )
)
def test_whatever_a_file_says_the_answer_is_a_config_or_sentences(written, document):
    path = written(toml.text(document))
    try:
        again = written(describe(load(path, {})), "again.toml")
    except ConfigError as error:
        sentences = error.sentences()
    else:
        sentences = []

        assert load(again, {}) == load(path, {})
    assert all(sentence.startswith("headway.toml") for sentence in sentences)


@dataclass(frozen=True)
class Triple:
    __pydantic_config__: ClassVar[ConfigDict] = FORBIDDING

    size: Annotated[int, MultipleOf(3)]


def test_a_bound_of_another_kind_is_told_in_the_validators_words():
    with pytest.raises(ConfigError) as caught:
        Document(Triple).read("triple", {"size": 4})

    assert caught.value.sentences() == ["triple.size: should be a multiple of 3, not 4"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "router.example"])  # noqa: S104 # none is listened on
def test_nobody_is_left_open_to_the_world_unawares(written, host):
    with pytest.raises(ConfigError) as refused:
        load(written(f'server = {{ host = "{host}" }}\n' + FAST), {})
    (sentence,) = refused.value.sentences()

    assert "headway keys create" in sentence
    assert "open = true" in sentence


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_on_a_loopback_address_nobody_is_asked(written, host):
    config = load(written(f'server = {{ host = "{host}" }}\n' + FAST), {})

    assert config.access is None


@pytest.mark.parametrize("access", ["{}", "{ open = true }"])
def test_a_public_address_takes_either_keys_or_the_word_that_it_is_open(written, access):
    text = f'server = {{ host = "::" }}\naccess = {access}\n'
    config = load(written(text + FAST), {})

    assert config.access is not None


def test_a_proxy_is_named_by_its_network(written):
    with pytest.raises(ConfigError, match=r"is no network .* '10.0.0.0/8'"):
        load(written('access = { trusted_proxies = ["nginx"] }\n' + FAST), {})


JWT = {
    "issuer": '"https://id.example"',
    "audience": '["headway"]',
    "jwks": '"https://id.example/keys"',
}


def jwt(*, access="", **keys):
    """Return a section for tokens; values are TOML, None leaves a key out."""
    lines = [f"{key} = {value}" for key, value in (JWT | keys).items() if value is not None]
    return "\n".join([FAST, "[access]", access, "[access.jwt]", *lines, ""])


def test_tokens_of_an_issuer_are_taken_where_the_file_says_so(written, tmp_path):
    (tmp_path / "jwks.json").write_text("{}")
    text = (
        jwt(jwks='"jwks.json"', algorithms='["ES384"]')
        + """
        [access.jwt.default]
        models = ["small-*"]
        highest_class = "standard"
        """
    )
    config = load(written(text), {})
    assert config.access is not None
    said = config.access.jwt

    assert said is not None
    assert (said.issuer, said.audience) == ("https://id.example", ("headway",))
    assert said.jwks == str(tmp_path / "jwks.json")
    assert said.algorithms == (Signing.ES384,)
    assert said.default == Entitlement(("small-*",), highest_class=SlaClass.STANDARD)
    assert load(written(describe(config), "again.toml"), {}) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (jwt(issuer=None), "access.jwt.issuer"),
        (jwt(audience="[]"), "access.jwt.audience"),
        (jwt(algorithms='["HS256"]'), 'not "HS256"'),
        (jwt(algorithms='["none"]'), 'not "none"'),
        (jwt(algorithms="[]"), "access.jwt.algorithms"),
        (jwt(jwks='"gone.json"'), "gone.json' cannot be read: no such file or directory"),
        (jwt(jwks='"https://me:s3cret@id.example/keys"'), "holds a user name or password"),
        (jwt(jwks='"https:///keys"'), "names no host"),
        (jwt(jwks='"https://id.example/keys#a"'), "has something after '#'"),
        (jwt(jwks='"https://id.example/a b"'), "holds a character that no url may"),
        (jwt(ca_file='"gone.pem"'), "gone.pem cannot be read: no such file or directory"),
        (jwt(leeway_s="301"), "access.jwt.leeway_s"),
        (jwt(access="open = true"), "open = true lets in whoever comes"),
    ],
)
def test_tokens_that_could_not_be_judged_are_told_of(flaws, text, said):
    (sentence,) = flaws(text)

    assert said in sentence
    assert "s3cret" not in sentence


def test_a_package_that_is_not_installed_is_named_with_the_way_to_it(flaws, monkeypatch):
    monkeypatch.setitem(sys.modules, "joserfc", None)

    (sentence,) = flaws(jwt())

    assert sentence.startswith("headway.toml.access.jwt: needs the package joserfc")
    assert sentence.endswith("pip install 'headway[jwt]'")
