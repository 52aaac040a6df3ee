from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from policies.endpoints.registry import POLICIES
from policies.facts import Profile, SlaClass, Targets
from policies.policy import EndpointPolicyName, Policy


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    policy: Policy


def read(policy: dict[str, Any]) -> Policy:
    return Document.model_validate({"policy": policy}).policy


def test_an_empty_document_is_the_default_policy():
    assert read({}) == Policy()


def test_a_policy_survives_being_written_and_read():
    policy = read({"models": {"m": {"standard": {"first_token_s": 3.0}}}})

    assert read(Document(policy=policy).model_dump(mode="json")["policy"]) == policy


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"clases": {}}, ("policy", "clases")),
        (
            {"classes": {"bulk": {"max_wait": 1}}},
            ("policy", "classes", "bulk", "max_wait"),
        ),
        (
            {"classes": {"bulk": {"max_wait_s": 0}}},
            ("policy", "classes", "bulk", "max_wait_s"),
        ),
        (
            {"classes": {"bulk": {"targets": {"deadline_s": -1}}}},
            ("policy", "classes", "bulk", "targets", "deadline_s"),
        ),
        (
            {"profiles": {"predictable": {"holds": {"bulk": {"share": 1.5}}}}},
            ("policy", "profiles", "predictable", "holds", "bulk", "share"),
        ),
        (
            {"profiles": {"throughput": {"endpoint_policy": "best"}}},
            ("policy", "profiles", "throughput", "endpoint_policy"),
        ),
        ({"retry": {"max_attempts": 0}}, ("policy", "retry", "max_attempts")),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_what_is_unknown_or_out_of_range_is_refused_at_its_place(document, place):
    with pytest.raises(ValidationError) as refusal:
        read(document)

    assert refusal.value.errors()[0]["loc"][: len(place)] == place


def test_every_field_is_described_in_the_schema():
    definitions = Document.model_json_schema()["$defs"]

    silent = [
        f"{name}.{field}"
        for name, definition in definitions.items()
        for field, schema in definition.get("properties", {}).items()
        if not schema.get("description")
    ]

    assert silent == []


def test_every_field_has_a_default():
    def without_default(kind: type) -> list[str]:
        made = kind()
        return [
            name
            for field in fields(made)
            for value in [getattr(made, field.name)]
            for name in (without_default(type(value)) if is_dataclass(value) else [])
        ]

    assert without_default(Policy) == []


def test_every_endpoint_policy_has_a_name_and_every_name_a_policy():
    assert set(POLICIES) == set(EndpointPolicyName)


def test_classes_and_profiles_are_found_by_their_names():
    policy = Policy()

    assert policy.of_class(SlaClass.INTERACTIVE).targets == Targets(0.5, 0.05)
    assert policy.of_class(SlaClass.STANDARD).targets == Targets(2.0, 0.10)
    assert policy.of_class(SlaClass.BULK).targets == Targets(deadline_s=60.0)
    assert policy.of_profile(Profile.PREDICTABLE).max_prompt_tokens == 4096
    assert policy.of_profile(Profile.THROUGHPUT).max_prompt_tokens is None
