"""Commands as clients of the running collector: its address, the token to send, and where its answer is written."""

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenyield_collector.config import CollectorSettings

ANSWER_S_MAX = 300
ERRORS_SHOWN = 3


def add_client_flags(parser: argparse.ArgumentParser) -> None:
    """Those of `request_from_collector`."""
    parser.add_argument("--collector", metavar="URL", help="ask this collector instead of the one in the settings")
    parser.add_argument("--token-file", metavar="FILE", help="a file with the token to send; default token_file")
    parser.add_argument("--ca-file", metavar="FILE", help="trust these CA certificates instead of the system's")


def request_from_collector(
    settings: "CollectorSettings",
    arguments: argparse.Namespace,
    path: str,
    query: dict[str, str],
    output: Path | io.BytesIO | None,
    *,
    body: bytes | None = None,
    packed: bool = False,
    right: str = "read",
) -> None:
    """Write the answer into `output`, or to standard output. Of `arguments`: collector, token_file, ca_file. With a
    `body` (JSON; `packed` with gzip) it is posted, by a token that has `right`.

    Raises `ParameterError` for a parameter that the collector refuses, OSError when it cannot be reached or breaks off.
    """
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    base = _base_url(settings, arguments.collector)
    url = f"{base}{path}?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(url, body)  # noqa: S310 - http(s) only
    if body is not None:
        request.add_header("Content-Type", "application/json")
        if packed:
            request.add_header("Content-Encoding", "gzip")
    if (file := arguments.token_file or settings.token_file) is not None:
        request.add_header("Authorization", f"Bearer {_token_that_may(Path(file), right)}")
    context = None
    if base.startswith("https://"):
        import ssl

        context = ssl.create_default_context(cafile=arguments.ca_file)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S_MAX, context=context) as answer:  # noqa: S310
            _copy(answer, output)
    except http.client.HTTPException as error:
        raise OSError(f"{base} broke off: {error!r}; what came is incomplete") from error
    except urllib.error.HTTPError as error:
        raise _refusal(base, error.code, error.read()) from error
    except urllib.error.URLError as error:
        raise OSError(f"{base} cannot be reached ({error.reason}); check that the collector is running") from error


def _base_url(settings: "CollectorSettings", url: str | None) -> str:
    from tokenyield_collector.errors import ParameterError
    from tokenyield_settings.web_config import read_web_config

    scheme = "https" if read_web_config(settings.web_config_file).tls_server_config else "http"
    base = (url or f"{scheme}://{settings.listen}").rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise ParameterError("collector", expected="a URL", found=f"'{base}'", fix="write http://host:port")
    return base


def _token_that_may(path: Path, right: str) -> str:
    """The first token of the file that is not a digest, and has `right`. Raises `ParameterError`, OSError."""
    from tokenyield_collector.access.token_file import parse_token_file
    from tokenyield_collector.errors import ParameterError

    for line in path.read_text(encoding="utf-8").splitlines():
        token = line.partition(" ")[0]
        if token and not token.startswith(("#", "sha256:", "cert:")):
            tokens = parse_token_file(line, str(path)).by_digest
            if not tokens or any(right in grant.may for grant in tokens.values()):
                return token
    raise ParameterError(
        "token_file",
        expected=f"a token that may {right}" if right == "read" else f"a token with may={right}",
        found=f"only digests, or tokens that may not, in {path}",
        fix="name a file that has one",
    )


def _copy(answer: "io.BufferedIOBase", output: Path | io.BytesIO | None) -> None:
    import shutil

    if isinstance(output, io.BytesIO):
        shutil.copyfileobj(answer, output)
    elif output is None:
        shutil.copyfileobj(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        with output.open("wb") as file:
            shutil.copyfileobj(answer, file)


def _refusal(base: str, status: int, body: bytes) -> Exception:
    """`ParameterError` where the collector names the parameter that it cannot use, OSError for anything else."""
    import msgspec

    from tokenyield_collector.errors import ParameterError
    from tokenyield_collector.http.schemas import ProblemDocument

    try:
        document = msgspec.json.decode(body, type=ProblemDocument)
    except msgspec.DecodeError:
        return OSError(f"{base} answered {status}")
    if status == 400 and (errors := document.get("errors")):
        fault = errors[0]
        return ParameterError(
            fault["field"], expected=fault["expected"], found=fault["found"], fix=fault.get("fix", "")
        )
    faults = [f"{one['field']}: expected {one['expected']}, found {one['found']}" for one in document.get("errors", ())]
    detail = "; ".join([document["detail"], *faults[:ERRORS_SHOWN]])
    return OSError(f"{base} answered {status}: {detail}")
