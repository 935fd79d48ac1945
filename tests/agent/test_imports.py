"""What the agent does not pay for beside the GPUs until it is needed: modules that bring OpenSSL, mail and HTTP servers."""

import json
import subprocess
import sys

HEAVY = {"ssl", "hashlib", "http.client", "http.server", "email", "subprocess", "asyncio", "yaml", "prometheus_client"}


def test_the_daemon_imports_nothing_heavy() -> None:
    code = "import json, sys; import tokenyield_agent.daemon, tokenyield_agent.shipping.enrolment; print(json.dumps(sorted(sys.modules)))"
    call = [sys.executable, "-c", f"import sys; sys.path = {sys.path!r}; {code}"]
    modules = json.loads(subprocess.run(call, capture_output=True, check=True).stdout)
    assert not HEAVY & set(modules)
