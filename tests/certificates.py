"""Certificates for the tests, by openssl: a CA, servers, clients, and a stranger."""

import subprocess
from pathlib import Path


def make_certificates(folder: Path) -> None:
    """A CA, a server certificate for localhost, and client certificates of this CA and of another."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for ca in ("ca", "other-ca"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout",
                f"{ca}.key", "-out", f"{ca}.crt", "-subj", f"/CN={ca}")  # fmt: skip
    for name, ca, names in (
        ("server", "ca", "DNS:localhost,IP:127.0.0.1"),
        ("server2", "ca", "DNS:localhost,IP:127.0.0.1"),
        ("gpu-7", "ca", "DNS:gpu-7.gpu.example.com"),
        ("stranger", "other-ca", "DNS:gpu-7.gpu.example.com"),
    ):
        (folder / "names").write_text(f"subjectAltName={names}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out",
                f"{name}.csr", "-subj", f"/CN={name}")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days",
                "2", "-out", f"{name}.crt", "-extfile", "names")  # fmt: skip
