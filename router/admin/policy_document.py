"""The policy as the file, the interface and the command line share it: one typed document."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from pydantic import ConfigDict, TypeAdapter

from policies.policy import Policy
from router.admin.pointers import pointer_to
from router.config import strangers
from router.document import FORBIDDING, ConfigError, Document, Flaw, merged, place
from router.settings import Pool


@dataclass(frozen=True, slots=True)
class _Holder:
    """What makes the policy's dataclasses refuse unknown keys."""

    __pydantic_config__: ClassVar[ConfigDict] = FORBIDDING

    policy: Policy


_DOCUMENT: Final = Document(_Holder)
NAME: Final = "policy"


def read_policy(document: Any, pools: Iterable[Pool] | None = None) -> Policy:
    """Return the policy that a JSON document means, defaults filled in; raises `ConfigError`.

    `pools`: names that these have not are refused; None: any name will do.
    """
    if not isinstance(document, dict):
        raise ConfigError(NAME, [Flaw("", "must be a table")])
    full = merged(asdict(Policy()), document)
    try:
        policy: Policy = _DOCUMENT.read("", {"policy": full}).policy
    except ConfigError as error:
        inside = [Flaw(_inside(each.place), each.message) for each in error.flaws]
        raise ConfigError(NAME, inside) from None
    flaws = [
        Flaw(place(way), message)
        for way, message in (() if pools is None else strangers(policy, pools))
    ]
    if flaws:
        raise ConfigError(NAME, flaws)
    return policy


def write_policy(policy: Policy) -> dict[str, Any]:
    """Return the document of a policy, every default visible."""
    document: dict[str, Any] = _DOCUMENT.write(_Holder(policy))["policy"]
    return document


def policy_schema() -> dict[str, Any]:
    """Return the JSON schema, each field with its default and its explanation."""
    return TypeAdapter(_Holder).json_schema(ref_template="#/components/schemas/{model}")


def flaws_of(error: ConfigError) -> list[dict[str, str]]:
    """Return what is wrong with a document, each with its JSON pointer."""
    return [{"pointer": pointer_to(each.place), "message": each.message} for each in error.flaws]


def _inside(place: str) -> str:
    return place.removeprefix("policy").removeprefix(".")
