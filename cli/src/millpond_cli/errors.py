"""The one error that reaches the person at the terminal: a sentence that says what is wrong and what to do.

Owns the exception and the translation of the API server's refusals into sentences. It must not print or exit:
`main.Cli` does both, once, so that no command ends in a traceback.
"""

from typing import Any

import orjson


class CliError(Exception):
    """One sentence for stderr; the command ends with exit code 1."""


class NotFound(CliError):
    """The object or the kind is not there."""


class Conflict(CliError):
    """An object of that name exists already."""


class Expired(CliError):
    """A watch's or a list's position is too old for the server (410): list again."""


class Unreachable(CliError):
    """No connection to the API server, or it broke. A watch tries again; everything else ends."""


def refusal(status: int, body: bytes, what: str) -> CliError:
    """The error for an answer that is not 2xx. `what` names the object, as in `task census-files`."""
    message = _message(body) or f"HTTP {status}"
    if status == 404 and (message.startswith("404 page") or "could not find the requested resource" in message):
        return NotFound(f"{what}: this cluster does not serve Millpond's kinds: install the chart (charts/millpond)")
    if status == 404 and message.startswith("namespaces "):
        return NotFound(f"{what}: {message}: create the namespace, or name another -n/--namespace")
    if status == 404:
        return NotFound(f"{what} does not exist: see `millpond get` for what does, or name another -n/--namespace")
    if status == 401:
        return CliError(f"{what}: the cluster does not accept your credentials (401): log in again or use --context")
    if status == 409 and "already exists" in message:
        return Conflict(f"{what} exists already: give another --name, or delete it first")
    if status == 410:
        return Expired(f"{what}: {message}")
    if status >= 500 or status == 429:
        return Unreachable(f"{what}: the Kubernetes API answers {status}: {message}")
    return CliError(f"{what}: {message}")


def _message(body: bytes) -> str:
    """The `message` of a metav1.Status, or the plain text of the answer."""
    try:
        status: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace").strip()
    return str(status.get("message", "")) if isinstance(status, dict) else ""
