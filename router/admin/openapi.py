"""The OpenAPI document, made from the table of operations that answers.

Source: OpenAPI 3.1.0.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from router.admin.operations import PREFIX, Operation
from router.admin.policy_document import policy_schema
from router.version import headway_version

_ANY_TEXT: Final = {"type": "string"}
ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _ANY_TEXT,
                "type": _ANY_TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "errors": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["pointer", "message"],
                        "properties": {"pointer": _ANY_TEXT, "message": _ANY_TEXT},
                    },
                },
            },
        }
    },
}
_REFUSALS: Final = {
    400: "The body is no JSON, or a header or parameter is malformed",
    401: "No token, or a wrong one",
    404: "There is nothing of that name, and what comes near",
    409: "It makes no sense as things are",
    412: "Somebody changed it since; If-Match names another version",
    413: "The body is too large",
    422: "The document is wrong; every flaw with its JSON pointer",
    428: "If-Match is missing",
    503: "It could not be stored, or too many watch; nothing is in effect",
}
_NAMES: Final = {
    "name": "A pool's name",
    "id": "An endpoint's id, a request's, or a key's",
    "version": "A version of the document",
}


def openapi(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, Any] = {}
    for each in operations:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", PREFIX + each.path)
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, path)
    schema = policy_schema()
    schemas = {**schema["$defs"], "Error": ERROR}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "headway administration",
            "version": headway_version(),
            "description": "Policy, pools and traffic of a running router.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, path: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "operationId": _id(operation),
        "summary": operation.summary,
        "parameters": [*_path_parameters(path), *_parameters(operation)],
        "responses": {str(operation.status): _success(operation), **_refusals(operation)},
    }
    if operation.body is not None:
        media = "application/merge-patch+json" if operation.method == "PATCH" else None
        content = {"schema": operation.body}
        types = [each for each in ("application/json", media) if each]
        document["requestBody"] = {"required": True, "content": dict.fromkeys(types, content)}
    return document


def _id(operation: Operation) -> str:
    words = re.findall(r"\w+", operation.path.replace(":int", ""))
    return "_".join([operation.method.lower(), *words])


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _NAMES[name],
            "schema": {"type": "integer", "minimum": 0, "maximum": 1 << 53}
            if name == "version"
            else {"type": "string", "minLength": 1},
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": q.name, "in": "query", "description": q.about, "schema": q.schema}
        for q in operation.query
    ]
    if operation.if_match:
        found.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": operation.if_match == "required",
                "description": "The ETag of the version that the change was made for; * for any",
                "schema": _ANY_TEXT,
            }
        )
        for name, about in (
            ("X-Change-By", "Who makes the change, for the history"),
            ("X-Change-Reason", "Why, for the history"),
        ):
            found.append({"name": name, "in": "header", "description": about, "schema": _ANY_TEXT})
    return found


def _success(operation: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": operation.summary,
        "content": {operation.media: {"schema": operation.answer}},
    }
    if operation.if_match:
        answer["headers"] = {"ETag": {"schema": _ANY_TEXT, "description": "The present version"}}
    return answer


def _refusals(operation: Operation) -> dict[str, Any]:
    statuses = {400, 401, *operation.refusals}
    if operation.body is not None:
        statuses.add(413)
    if operation.if_match:
        statuses |= {412, 503}
    if operation.if_match == "required":
        statuses.add(428)
    if "{" in operation.path:
        statuses.add(404)
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        str(status): {"description": _REFUSALS[status], "content": content}
        for status in sorted(statuses)
    }
