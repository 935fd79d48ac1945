"""`tokenyield-collector mcp`: a bridge from standard input to /mcp of a collector, for clients that start a program.

In: messages of the Model Context Protocol, one a line. Out: the collector's answers, one a line. Nothing but these is
written to standard output. What the collector does not answer (it is down, the token is wrong) is an error of the
protocol, so that the client shows the reason.
"""

import argparse
import sys
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError

HELP = "a bridge from standard input to /mcp of a collector, for desktop clients"
EXAMPLE = "mcp --url https://tokenyield.example.com:9464/mcp --token-file ~/.config/tokenyield/token"
_NO_ANSWER = -32000
_META_VERSION = "io.modelcontextprotocol/protocolVersion"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, help="of the collector's /mcp")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file with the token to send")
    parser.add_argument("--ca-file", metavar="FILE", help="trust these CA certificates instead of the system's")


def run(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.mcp.protocol import BODY_BYTES_MAX

    if not arguments.url.startswith(("http://", "https://")):
        print(f"url: expected http:// or https://, found '{arguments.url}'", file=sys.stderr)
        return 2
    bridge = Bridge(arguments.url, arguments.token_file, arguments.ca_file)
    while line := sys.stdin.buffer.readline(BODY_BYTES_MAX + 1):
        if len(line) > BODY_BYTES_MAX:
            print(f"expected messages of at most {BODY_BYTES_MAX} bytes, found a longer one", file=sys.stderr)
            return 1
        if line.strip():
            bridge.pass_on(line, sys.stdout.buffer)
    return 0


class Bridge:
    """Passes messages on. The token is read for each, so that it can be replaced."""

    def __init__(self, url: str, token_file: Path | None, ca_file: str | None) -> None:
        import ssl

        self._url = url
        self._token_file = token_file
        self._context = ssl.create_default_context(cafile=ca_file) if url.startswith("https://") else None
        self._version = ""
        """That the handshake agreed on."""

    def pass_on(self, line: bytes, out: IO[bytes]) -> None:
        import msgspec

        try:
            message = msgspec.json.decode(line)
        except (ValueError, RecursionError):
            message = None
        try:
            answer = self._sent(message, line)
        except (HTTPError, URLError, OSError, ValueError) as error:
            answer = self._no_answer(message, error)
        if answer.strip():
            out.write(answer.strip() + b"\n")
            out.flush()

    def _sent(self, message: Any, line: bytes) -> bytes:
        """Raises what urllib raises; a refusal that is of the protocol is an answer."""
        import urllib.request

        request = urllib.request.Request(self._url, line, self._headers(message))  # noqa: S310 - http(s) only
        try:
            with urllib.request.urlopen(request, context=self._context) as response:  # noqa: S310
                answer: bytes = response.read()
        except HTTPError as error:
            if error.headers.get_content_type() != "application/json":
                raise
            answer = error.read()
        if _method(message) == "initialize":
            self._version = _agreed(answer)
        return answer

    def _headers(self, message: Any) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {self._token_file.read_text(encoding='utf-8').strip()}"
        stated = _field(_field(_field(message, "params"), "_meta"), _META_VERSION)
        if stated is not None:
            headers |= {"MCP-Protocol-Version": str(stated), "Mcp-Method": str(_method(message))}
            if _method(message) == "tools/call":
                headers["Mcp-Name"] = str(_field(_field(message, "params"), "name"))
        elif self._version:
            headers["MCP-Protocol-Version"] = self._version
        return headers

    def _no_answer(self, message: Any, error: Exception) -> bytes:
        """Empty for what has no answer anyway; the reason then stands in standard error alone."""
        import msgspec

        why = f"{self._url}: {_reason(error)}"
        print(why, file=sys.stderr)
        number = _field(message, "id")
        if number is None:
            return b""
        return msgspec.json.encode({"jsonrpc": "2.0", "id": number, "error": {"code": _NO_ANSWER, "message": why}})


def _reason(error: Exception) -> str:
    import msgspec

    if not isinstance(error, HTTPError):
        return f"no answer ({error})"
    try:
        detail = _field(msgspec.json.decode(error.read()), "detail")
    except (ValueError, OSError):
        detail = None
    return f"answered {error.code}" + (f": {detail}" if detail else "")


def _agreed(answer: bytes) -> str:
    import msgspec

    try:
        return str(_field(_field(msgspec.json.decode(answer), "result"), "protocolVersion") or "")
    except ValueError:
        return ""


def _method(message: Any) -> Any:
    return _field(message, "method")


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
