"""Security headers for browsers, on every answer and every refusal."""

from collections.abc import Mapping

from aiohttp import web, web_response

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALWAYS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
web_response.SERVER_SOFTWARE = "tokenyield"  # type: ignore[attr-defined]  # in what aiohttp itself answers to bytes that are not HTTP
_HSTS = "max-age=31536000"


def secure(response: web.StreamResponse, own: Mapping[str, str], is_https: bool) -> None:
    """What a handler has set stays (the page's policy); `own` are those of the web config, which take precedence."""
    for name, value in _ALWAYS.items():
        response.headers.setdefault(name, value)
    if is_https:
        response.headers.setdefault("Strict-Transport-Security", _HSTS)
    for name, value in own.items():
        if value:
            response.headers[name] = value
        else:
            response.headers.pop(name, None)
