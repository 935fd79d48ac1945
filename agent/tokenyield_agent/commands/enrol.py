"""`enrol`: get this node a token of its own from the collector, for a bootstrap secret."""

import argparse
import sys

from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.terminal import show

HELP = "get this node a token of its own, for a bootstrap secret (from standard input)"
EXAMPLE = "enrol --config agent.yaml < secret"
SECRET_BYTES_MAX = 16 * 1024
_FIX = "the collector's operator makes one with `tokenyield-collector enrol secret`"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "agent/agent.yaml")
    parser.add_argument(
        "--secret-file", metavar="FILE", help="a file with the bootstrap secret; default standard input"
    )


def run(arguments: argparse.Namespace) -> int:
    """0 enrolled; 1 where the collector refuses or does not answer, or the token cannot be kept; 2 without a secret.
    Raises `SettingsError`."""
    from pathlib import Path
    from urllib.parse import urlsplit

    from tokenyield_agent.config import settings_of
    from tokenyield_agent.host.clock import HostClock
    from tokenyield_agent.http.answer import BadAnswer
    from tokenyield_agent.http.bearer import TokenFileError, token_in
    from tokenyield_agent.shipping.collector_link import CollectorLink, UnusableSetting
    from tokenyield_agent.shipping.enrolment import NS_PER_S, USER, exchange, store
    from tokenyield_settings.addresses import is_loopback
    from tokenyield_settings.private_files import prepare_folder

    settings = settings_of(arguments)
    folder, link = Path(settings.state_dir), CollectorLink(settings)
    try:
        secret = token_in(arguments.secret_file, "--secret-file") if arguments.secret_file else _from_input()
        file = settings.collector_token_file
        current = token_in(file, "collector_token_file") if file and Path(file).exists() else ""
        if not secret:
            show("enrol: expected one bootstrap secret on standard input, found something else; " + _FIX, is_error=True)
            return 2
        prepare_folder(folder, mode=0o750, user=USER)
        token = exchange(settings, link, secret, HostClock().wall_ns() // NS_PER_S, current)
        store(folder, token)
    except TokenFileError as error:
        show(f"enrol: {error}", is_error=True)
        return 2
    except UnusableSetting as error:
        show(f"enrol: {error}", is_error=True)
        return 1
    except (OSError, BadAnswer) as error:
        fix = "check collector_url, collector_ca_file, and that state_dir can be written"
        show(f"enrol: {settings.collector_url}: {error or type(error).__name__}; {fix}", is_error=True)
        return 1
    finally:
        link.close()
    if settings.collector_url.startswith("http:") and not is_loopback(urlsplit(settings.collector_url).hostname or ""):
        show(
            "enrol: the secret and the token crossed the network unencrypted; use https in collector_url", is_error=True
        )
    print(f"cluster {token.cluster}, node {token.node}: enrolled for {token.expires_in_s // 86_400} days")
    if settings.collector_token_file:
        show("enrol: collector_token_file is sent until it is removed from the settings: remove it", is_error=True)
    return 0


def _from_input() -> str:
    secret = sys.stdin.buffer.read(SECRET_BYTES_MAX).decode("ascii", "replace").strip()
    return secret if secret.isprintable() and " " not in secret else ""
