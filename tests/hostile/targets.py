"""Targets, methods, versions and hosts: what leads past a rule that somebody in front enforces.

Administration wants a token that no case has: whatever leads there is a 401, and whatever only
looks as if it did is refused or not found. Source: RFC 9112, section 3; RFC 3986, section 6.2.
"""

from tests.hostile.case import (
    BODY,
    HOST,
    LENGTH,
    SMUGGLED,
    Case,
    each_refused,
    each_served,
    head,
    post,
    refused,
    served,
)


def get(
    target: bytes, *lines: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1"
) -> bytes:
    """Return a request without a body."""
    return head(HOST, *lines, start=b"%b %b %b" % (method, target, version))


ADMIN = b"/admin/v1/policy"
_ROUNDABOUT = {
    "dot segments": b"/v1/../admin/v1/policy",
    "dot segments from the middle": b"/v1/models/../../admin/v1/policy",
    "dots encoded": b"/v1/%2e%2e/admin/v1/policy",
    "dots encoded in capitals": b"/v1/%2E%2E/admin/v1/policy",
    "one dot encoded": b"/v1/.%2e/admin/v1/policy",
    "slash encoded": b"/v1/..%2fadmin/v1/policy",
    "slash encoded in the prefix": b"/admin%2fv1/policy",
    "slash encoded in the middle": b"/admin/v1%2Fpolicy",
    "a letter encoded": b"/%61dmin/v1/policy",
    "a later letter encoded": b"/admi%6e/v1/policy",
    "a letter encoded behind the prefix": b"/admin/v1/polic%79",
    "two slashes": b"//admin/v1/policy",
    "two slashes inside": b"/admin//v1/policy",
    "three slashes": b"///admin///v1///policy",
    "one dot": b"/./admin/v1/policy",
    "one dot inside": b"/admin/./v1/policy",
    "backslash": b"/v1\\..\\admin\\v1\\policy",
    "backslash encoded": b"/v1/..%5cadmin/v1/policy",
    "zero byte encoded": b"/admin/v1/policy%00",
    "zero byte encoded before an end": b"/admin/v1/policy%00.json",
    "line end encoded": b"/admin/v1/policy%0d%0ax:%20y",
    "overlong dots": b"/v1/%c0%ae%c0%ae/admin/v1/policy",
    "overlong slash": b"/v1/..%c0%afadmin/v1/policy",
    "a percent that encodes nothing": b"/admin/v1/policy%",
    "a percent before no digits": b"/%zzadmin/v1/policy",
    "a unicode escape": b"/%u0061dmin/v1/policy",
    "semicolon behind dots": b"/v1/..;/admin/v1/policy",
    "back into inference": b"/admin/v1/../../v1/completions",
}
_NOT_FOUND = {
    "capitals": b"/ADMIN/v1/policy",
    "a capital": b"/Admin/v1/policy",
    "a parameter": b"/admin;x=y/v1/policy",
    "a slash at the end": b"/admin/v1/policy/",
    "an ending": b"/admin/v1/policy.json",
    "inference in front": b"/v1/admin/v1/policy",
    "encoded twice": b"/%2561dmin/v1/policy",
    "dots encoded twice": b"/v1/%252e%252e/admin/v1/policy",
    "space encoded": b"/%20/admin/v1/policy",
    "in the query": b"/v1/x?/../admin/v1/policy",
    "behind an asterisk": b"/*/admin/v1/policy",
}
_NO_PATHS = {
    "asterisk": b"*",
    "authority": b"r:80",
    "a name": b"admin/v1/policy",
    "a query": b"?x=/admin/v1/policy",
    "fragment": b"/healthz#/admin/v1/policy",
    "fragment in front": b"#/healthz",
    "fragment in an absolute one": b"http://r/healthz#x",
    "another scheme": b"ftp://r/healthz",
    "a file": b"file:///etc/passwd",
    "a script": b"javascript:alert(1)",
    "scheme without slashes": b"http:healthz",
    "one slash behind the scheme": b"http:/healthz",
    "no authority": b"http:///healthz",
    "a user in the authority": b"http://u:p@r/healthz",
    "a scheme of scheme": b"http://http://r/healthz",
    "backslash in the authority": b"http://r\\@x/healthz",
    "unix socket": b"http+unix://%2ftmp%2fx/healthz",
    "quote": b'/healthz"',
    "angle brackets": b"/<script>",
    "brace": b"/{healthz}",
    "pipe": b"/healthz|x",
    "caret": b"/healthz^",
    "backtick": b"/`id`",
}
_VERSIONS = (
    b"HTTP/2.0", b"HTTP/2", b"HTTP/3.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/1.10",
    b"HTTP/1.01", b"HTTP/01.1", b"HTTP/11.1", b"HTTP/1,1", b"HTTP/1.", b"HTTP/.1", b"HTTP/1",
    b"HTTP/", b"HTTP 1.1", b"HTTP/1.1x", b"HTTP/1.1,", b"HTTP/+1.1", b"HTTP/1.-1", b"HTTPS/1.1",
    b"HTTP//1.1", b"HTTP\\1.1", b"Http/1.1", b"HXTP/1.1", b"ICY/1.1", b"HTCPCP/1.0",
)  # fmt: skip
_METHODS = (
    b"post", b"Post", b"POST,", b"POST:", b"P", b"XPOST", b"POSTX", b"FOO", b"G\xcbT", b"[GET]",
    b'"GET"', b"GET/", b"PO ST",
)  # fmt: skip
_WRONG_METHODS = (
    b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND", b"MKCOL", b"LOCK", b"REPORT",
    b"SUBSCRIBE", b"PURGE", b"LINK", b"M-SEARCH", b"QUERY",
)  # fmt: skip
_HOSTS = {
    "none": (),
    "two": (b"host: r", b"host: x"),
    "two alike": (b"host: r", b"host: r"),
    "two in a list": (b"host: r, x",),
    "space inside": (b"host: r x",),
    "a path": (b"host: r/admin",),
    "a user": (b"host: u@r",),
    "a scheme": (b"host: http://r",),
    "a query": (b"host: r?x",),
    "a fragment": (b"host: r#x",),
    "backslash": (b"host: r\\x",),
    "quotes": (b'host: "r"',),
    "angle brackets": (b"host: <r>",),
    "a port that is none": (b"host: r:x",),
    "two ports": (b"host: r:1:2",),
    "a bracket left open": (b"host: [::1",),
    "8-bit byte": (b"host: r\xff",),
    "space before the colon": (b"host : r",),
    "folded": (b"host:\r\n r",),
    "a zero byte": (b"host: r\x00x",),
}
_GOOD_HOSTS = {
    "a port": b"host: r:80",
    "no value": b"host:",
    "an address": b"host: 127.0.0.1:8080",
    "an address of IPv6": b"host: [::1]:80",
    "an underscore": b"host: my_router",
    "capitals": b"HOST: ROUTER.Example",
    "a dot at its end": b"host: router.example.",
    "an encoded letter": b"host: r%61",
}
_ABSOLUTE = b"http://other.example/v1/completions"

CASES: list[Case] = [
    refused("path: administration without a token", get(ADMIN), 401),
    refused("path: administration with a wrong token",
            get(ADMIN, b"authorization: Bearer own-0000"), 401),
    refused("path: administration by an absolute target", get(b"http://r" + ADMIN), 401),
    refused("path: administration by a secure absolute target", get(b"https://r" + ADMIN), 401),
    refused("path: administration with a query", get(ADMIN + b"?/v1/models"), 401),
    refused("path: administration by another's url",
            get(b"/v1/x", b"x-original-url: " + ADMIN, b"x-rewrite-url: " + ADMIN,
                b"x-forwarded-prefix: /admin"), 404),
    refused("path: administration by another method's name",
            get(ADMIN, b"x-http-method-override: PUT", method=b"POST"), 401),
    *each_refused("path", ((name, get(path)) for name, path in _ROUNDABOUT.items())),
    *each_refused("path", ((name, get(path)) for name, path in _NOT_FOUND.items()), 404),
    *each_refused("target", ((name, get(path)) for name, path in _NO_PATHS.items())),
    *each_refused("version", ((each.decode(), head(
        HOST, LENGTH, start=b"POST /v1/completions " + each) + BODY) for each in _VERSIONS)),
    *each_refused("method", ((each.decode("latin-1"), head(
        HOST, LENGTH, start=each + b" /v1/completions HTTP/1.1") + BODY) for each in _METHODS)),
    *each_refused("method of inference", ((each.decode(), get(b"/v1/completions", method=each))
                                          for each in _WRONG_METHODS), 405),
    *each_refused("host", ((name, head(*lines, LENGTH) + BODY) for name, lines in _HOSTS.items())),
    *each_served("host", ((name, head(line, LENGTH) + BODY) for name, line in _GOOD_HOSTS.items())),
    refused("version: none", b"GET /healthz\r\n\r\n"),
    refused("version: none, and headers", b"GET /healthz\r\nhost: r\r\n\r\n"),
    refused("version: HTTP/2's preface",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    refused("version: HTTP/2's preface behind a path", get(b"/", method=b"PRI", version=b"HTTP/2.0")),
    served("version: another protocol that is read as HTTP/1.0",
           head(HOST, LENGTH, start=b"POST /v1/completions RTSP/1.0") + BODY + SMUGGLED),
    served("version: HTTP/1.0 without a host",
           head(LENGTH, start=b"POST /v1/completions HTTP/1.0") + BODY),
    served("version: HTTP/1.0 that would be kept",
           head(HOST, LENGTH, b"connection: keep-alive", start=b"POST /v1/completions HTTP/1.0")
           + BODY + SMUGGLED),
    refused("method: CONNECT", get(b"r:80", method=b"CONNECT")),
    refused("method: CONNECT to a path", get(b"/healthz", method=b"CONNECT") + SMUGGLED),
    refused("method: CONNECT with a body", head(
        b"host: r:80", LENGTH, start=b"CONNECT r:80 HTTP/1.1") + BODY + SMUGGLED),
    refused("method: TRACE shows nobody's headers",
            get(b"/healthz", b"authorization: Bearer own-0000", method=b"TRACE"), 405),
    refused("method: OPTIONS of everything", get(b"*", method=b"OPTIONS")),
    served("target: absolute", post(target=_ABSOLUTE)),
    served("target: absolute in front of a query", post(target=_ABSOLUTE + b"?a=b")),
    served("target: with a query", post(target=b"/v1/completions?model=x&x=%0d%0a")),
    served("target: absolute, secure", post(target=b"https://r:443/v1/completions")),
    Case("target: an encoded name for a host", get(b"http://r%20x/healthz"), (200,)),
    refused("target: absolute, scheme in capitals", post(target=b"HTTP://r/v1/completions")),
    refused("target: inference by an encoded letter", post(target=b"/v1/completion%73")),
    refused("target: inference with a slash behind", post(target=b"/v1/completions/"), 404),
    refused("target: inference by dots", post(target=b"/v1/x/../completions")),
    refused("target: inference by two slashes", post(target=b"//v1/completions")),
    refused("target: inference in capitals", post(target=b"/V1/COMPLETIONS"), 404),
]  # fmt: skip
