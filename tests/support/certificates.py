"""Certificates of a test authority, for TLS between a scheduler, its workers and its clients."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CONFIG = """\
[req]
prompt = no
distinguished_name = name
[name]
CN = actstore-test
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[member]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Certificates:
    """PEM files of one member and of its authority."""

    ca: Path
    cert: Path
    key: Path


def missing() -> str:
    """What this machine lacks to make certificates, in one sentence, or ""."""
    return "" if shutil.which("openssl") else "no certificates can be made: there is no openssl command"


def make_certificates(folder: Path) -> Certificates:
    """Create an authority in ``folder`` and one certificate, valid for a day."""
    folder.mkdir()
    (folder / "openssl.cnf").write_text(CONFIG)
    new_key = ("-config", "openssl.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for arguments in (
        ("req", "-x509", *new_key, "-extensions", "authority", "-days", "1", "-keyout", "ca.key", "-out", "ca.pem"),
        ("req", "-new", *new_key, "-subj", "/CN=member", "-keyout", "member.key", "-out", "member.csr"),
        (
            *(
                "x509",
                "-req",
                "-in",
                "member.csr",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "1",
            ),
            *("-extfile", "openssl.cnf", "-extensions", "member", "-out", "member.pem"),
        ),
    ):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
    return Certificates(folder / "ca.pem", folder / "member.pem", folder / "member.key")
