"""Where the API server is and how one speaks to it: the mounted service account in a pod, a kubeconfig elsewhere.

Owns the reading of both, and the token, read again every minute because the kubelet rotates it. The generated client of
the `kubernetes` package would do this too, for 22 MB by its import alone (measured). A kubeconfig whose user logs in
by a command (`exec`) is refused with a sentence: the operator runs in a pod, a kubeconfig is for development.
"""

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MOUNTED = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REREAD = 60.0
"""Seconds for which a token that was read counts as fresh; the kubelet rotates it long before it expires."""

TokenSource = Callable[[], Awaitable[str]]


class NoCredentials(Exception):
    """There is neither a service account nor a usable kubeconfig; the text says what was looked at."""


@dataclass(frozen=True)
class Access:
    """The API server's URL, the TLS context, and the Authorization header (empty with a client certificate)."""

    server: str
    context: ssl.SSLContext
    authorization: TokenSource


def load_access(kubeconfig: str = "", mounted: Path = MOUNTED) -> Access:
    """By the kubeconfig named, else the pod's own service account, else the default kubeconfig."""
    if not kubeconfig and (mounted / "token").exists():
        return _from_pod(mounted)
    file = Path(kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not file.exists():
        raise NoCredentials(f"no service account is mounted at {mounted} and there is no kubeconfig {file}")
    return _from_kubeconfig(file)


def _from_pod(mounted: Path) -> Access:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise NoCredentials("a service account is mounted, but KUBERNETES_SERVICE_HOST is not set")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    context = ssl.create_default_context(cafile=str(mounted / "ca.crt"))
    return Access(server, context, _FileToken(mounted / "token"))


def _from_kubeconfig(file: Path) -> Access:
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    wanted = _named(config, "contexts", config.get("current-context", ""))["context"]
    cluster = _named(config, "clusters", wanted["cluster"])["cluster"]
    user = _named(config, "users", wanted["user"]).get("user") or {}
    if "exec" in user or "auth-provider" in user:
        raise NoCredentials(
            f"{file}: its user logs in by a command; use a token (kubectl create token) or a certificate"
        )
    authority = _read(cluster, "certificate-authority", file)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = _read(user, "client-certificate", file), _read(user, "client-key", file)
    if certificate and key:
        _load_pair(context, certificate, key)
    source = _FileToken(Path(user["tokenFile"])) if "tokenFile" in user else _fixed(user.get("token", ""))
    return Access(cluster["server"], context, source)


class _FileToken:
    """The Authorization header of a token that is kept in a file."""

    def __init__(self, file: Path) -> None:
        self._file, self._text, self._read_at = file, "", -REREAD

    async def __call__(self) -> str:
        if time.monotonic() - self._read_at >= REREAD:
            self._text = f"Bearer {self._file.read_text(encoding='utf-8').strip()}"
            self._read_at = time.monotonic()
        return self._text


def _fixed(token: str) -> TokenSource:
    async def authorization() -> str:
        return f"Bearer {token}" if token else ""

    return authorization


def _named(config: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    for one in config.get(kind) or []:
        if one["name"] == name:
            found: dict[str, Any] = one
            return found
    raise NoCredentials(f"the kubeconfig has no {kind[:-1]} {name!r}: is current-context right?")


def _read(section: dict[str, Any], name: str, file: Path) -> bytes:
    """Inline data, or a file beside the kubeconfig; empty where there is neither."""
    if f"{name}-data" in section:
        return base64.b64decode(section[f"{name}-data"])
    return (file.parent / section[name]).read_bytes() if name in section else b""


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # OpenSSL reads them from a file only: one that nobody else can read, for a moment.
    with tempfile.NamedTemporaryFile(suffix=".pem") as pair:
        pair.write(certificate + b"\n" + key)
        pair.flush()
        context.load_cert_chain(pair.name)
