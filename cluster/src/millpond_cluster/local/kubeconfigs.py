"""Kubeconfig files: the person's and one for each component.

Owns their content and how they are written (whole or not at all, readable by their owner only). The person's
kubeconfig holds its certificates inline, so that it can be copied; nothing else may write these files.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from pathlib import Path


def write_kubeconfig(file: Path, *, server: str, cluster: str, certificates: Path, subject: str) -> None:
    """JSON is YAML: no YAML library is needed to write one."""

    def inline(name: str) -> str:
        return base64.b64encode((certificates / name).read_bytes()).decode()

    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": inline("ca.crt")}}],
        "users": [
            {
                "name": subject,
                "user": {
                    "client-certificate-data": inline(f"{subject}.crt"),
                    "client-key-data": inline(f"{subject}.key"),
                },
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": subject}}],
        "current-context": cluster,
    }
    write_private(file, json.dumps(content, indent=1) + "\n")


def write_private(file: Path, text: str) -> None:
    """Replaces `file` at once; only its owner may read it. Threads may write the same file: the last one stands."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    scratch.touch(mode=0o600)
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(file)
