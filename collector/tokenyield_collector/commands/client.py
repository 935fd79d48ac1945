"""Commands that ask the running collector: where it is, with which token, and what its answer is written into."""

import argparse
import io
import shutil
import sys
from pathlib import Path

import msgspec

from tokenyield_collector.access.token_file import parse_token_file
from tokenyield_collector.config import Settings
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.schemas import ProblemDocument
from tokenyield_settings.web_config import read_web_config

ANSWER_S = 300


def ask(
    settings: Settings, arguments: argparse.Namespace, path: str, query: dict[str, str], into: Path | io.BytesIO | None
) -> None:
    """Write what the collector answers into a file, or to standard output. `arguments`: collector, token_file, ca_file.

    Raises `ParameterError` for what it refuses, OSError when it cannot be asked or breaks off.
    """
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    web_config = read_web_config(settings.web_config_file)
    scheme = "https" if web_config.tls_server_config else "http"
    base = (arguments.collector or f"{scheme}://{settings.listen}").rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise ParameterError("collector", expected="a URL", found=f"'{base}'", fix="write http://host:port")
    request = urllib.request.Request(f"{base}{path}?{urllib.parse.urlencode(query)}")  # noqa: S310 - http(s) only
    if (file := arguments.token_file or settings.token_file) is not None:
        request.add_header("Authorization", f"Bearer {_token_to_read(Path(file))}")
    context = None
    if base.startswith("https://"):
        import ssl

        context = ssl.create_default_context(cafile=arguments.ca_file)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S, context=context) as answer:  # noqa: S310
            if isinstance(into, io.BytesIO):
                shutil.copyfileobj(answer, into)
            elif into is None:
                shutil.copyfileobj(answer, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            else:
                with into.open("wb") as file:
                    shutil.copyfileobj(answer, file)
    except http.client.HTTPException as error:
        raise OSError(f"{base} broke off: {error!r}; what came is not the whole") from error
    except urllib.error.HTTPError as error:
        raise _refusal(base, error.code, error.read()) from error
    except urllib.error.URLError as error:
        raise OSError(f"{base} cannot be asked ({error.reason}); is the collector there?") from error


def _token_to_read(path: Path) -> str:
    """The first token that stands in the file whole, and may read. Raises `ParameterError`, OSError."""
    for line in path.read_text(encoding="utf-8").splitlines():
        token = line.partition(" ")[0]
        if token and not token.startswith(("#", "sha256:", "cert:")):
            file = parse_token_file(line, str(path))
            if not file.by_digest or any("read" in grant.may for grant in file.by_digest.values()):
                return token
    raise ParameterError(
        "token_file",
        expected="a token that may read",
        found=f"only digests, or tokens that may not, in {path}",
        fix="name a file that holds one",
    )


def _refusal(base: str, status: int, body: bytes) -> Exception:
    """`ParameterError` where the collector names the parameter that it cannot use, OSError for anything else."""
    try:
        document = msgspec.json.decode(body, type=ProblemDocument)
    except msgspec.DecodeError:
        return OSError(f"{base} answered {status}")
    if status == 400 and (errors := document.get("errors")):
        fault = errors[0]
        return ParameterError(
            fault["field"], expected=fault["expected"], found=fault["found"], fix=fault.get("fix", "")
        )
    return OSError(f"{base} answered {status} {document['detail']}")
