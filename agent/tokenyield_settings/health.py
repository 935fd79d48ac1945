"""`health`: requests /healthz of the program that runs with the same settings; for containers' health checks."""

import contextlib
import http.client
import ssl

from tokenyield_settings.terminal import show

ANSWER_S = 4.0


def ask_health(address: tuple[str, int], *, is_https: bool) -> int:
    """Exit code: 0 when it answers 200, else 1. The certificate is not verified: it names another host than this
    loopback."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])  # noqa: S104 - no binding
    connection: http.client.HTTPConnection
    if is_https:
        context = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(host, address[1], timeout=ANSWER_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, address[1], timeout=ANSWER_S)
    try:
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            text = answer.read(2000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        show(f"{host}:{address[1]} does not answer: {error}", is_error=True)
        return 1
    for line in text.split("\n"):
        show(line)
    return 0 if answer.status == 200 else 1
