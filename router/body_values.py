"""How the value of one field of the body is read; the wrong type is a `BadRequest`."""

from router.errors import BadRequest, wrong_type


def integer(name: str, value: object) -> int:
    """Read an integer; 16.0 is one, true is none."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise BadRequest(wrong_type(name, "an integer", value))


def number(name: str, value: object) -> float:
    """Read an integer or a decimal number."""
    if type(value) is float or type(value) is int:
        return value
    raise BadRequest(wrong_type(name, "a number", value))


def boolean(name: str, value: object) -> bool:
    """Read true or false; 1 is neither."""
    if type(value) is bool:
        return value
    raise BadRequest(wrong_type(name, "a boolean", value))


def string(name: str, value: object) -> str:
    """Read a string."""
    if type(value) is str:
        return value
    raise BadRequest(wrong_type(name, "a string", value))


def mapping(name: str, value: object) -> dict[str, object]:
    """Read an object."""
    if type(value) is dict:
        return value
    raise BadRequest(wrong_type(name, "an object", value))
