"""As whom one speaks to NATS: user and password, a token, a credentials file, TLS; and how that is never shown.

Owns the names and meaning of the MILLPOND_NATS_ variables beside the URL, which every connection of a process reads
(worker, lease keeper, understudy, clients in handlers and their child processes, the operator): whoever has one secret
needs to place it once, where no command line and no object shows it. It connects nothing and prints no secret: the
secrets are left out of the `repr`, and `redact_url` takes them out of a URL. A wrong combination, or a file that is not
there, is an `AccessError` with one sentence before anything is tried.
"""

import importlib.util
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from millpond.errors import MillpondError

PREFIX = "MILLPOND_NATS_"
INBOX = "_INBOX"


class AccessError(MillpondError):
    """What was given to be let in by NATS can't work; the text names the variable and what to do."""


@dataclass(frozen=True)
class Access:
    """Of `user` with `password`, `token` and `creds` at most one way is given; none: NATS asks for nothing.

    `creds`, `ca`, `cert` and `key` are paths of files (of PEM, `creds` as nsc writes it). `inbox` begins the subjects
    of answers: a user who may hear only its own answers needs one of its own.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    creds: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    inbox: str = INBOX

    def check(self) -> "Access":
        """Itself; AccessError when it can't work."""
        ways = [name for name in ("user", "token", "creds") if getattr(self, name)]
        if len(ways) > 1:
            raise AccessError(f"{' and '.join(map(variable, ways))} are both given: NATS takes one of them")
        if bool(self.user) != bool(self.password):
            raise AccessError(f"{variable('user')} and {variable('password')} belong together: one of them is missing")
        if self.key and not self.cert:
            raise AccessError(f"{variable('key')} is given without {variable('cert')}")
        for name in ("creds", "ca", "cert", "key"):
            path = getattr(self, name)
            if path and not os.access(path, os.R_OK):
                raise AccessError(f"{variable(name)}={path}: there is no such file, or it can't be read")
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", self.inbox):
            raise AccessError(f"{variable('inbox')}={self.inbox!r} must be words with dots between them")
        if self.creds and importlib.util.find_spec("nkeys") is None:
            raise AccessError(f"{variable('creds')} needs a signature: install millpond[creds]")
        return self

    def options(self) -> dict[str, Any]:
        """What nats-py's `connect` takes for it; AccessError when a file holds something else."""
        given = {"user": self.user, "password": self.password, "token": self.token, "user_credentials": self.creds}
        options: dict[str, Any] = {name: value for name, value in given.items() if value}
        if self.ca or self.cert:
            options["tls"] = self._make_tls()
        if self.inbox != INBOX:
            options["inbox_prefix"] = self.inbox
        return options

    def _make_tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None)
        except (OSError, ValueError) as error:
            raise AccessError(f"{variable('ca')}, {variable('cert')}: not usable as PEM ({error})") from None
        return context

    def variables(self) -> dict[str, str]:
        """The environment that says the same."""
        return {variable(one.name): getattr(self, one.name) for one in fields(self) if getattr(self, one.name)}

    @property
    def who(self) -> str:
        """In words, for a sentence; never a secret."""
        if self.user:
            return f"user {self.user!r}"
        if self.creds:
            return f"the credentials of {Path(self.creds).name}"
        return "this token" if self.token else "nobody (no credentials were given)"


def variable(name: str) -> str:
    """The variable of a field."""
    return PREFIX + name.upper()


def read_access(environment: Mapping[str, str] | None = None) -> Access:
    """What the environment (this process's own if not given) says; AccessError when it can't work."""
    said = os.environ if environment is None else environment
    return Access(
        **{one.name: said[variable(one.name)] for one in fields(Access) if said.get(variable(one.name))}
    ).check()


def redact_url(urls: str) -> str:
    """The URLs without what stands before an `@`: fit for logs, errors and statuses."""
    return re.sub(r"(^|,|://)[^/,@\s]*(?:@[^/,@\s]*)*@", r"\1", urls)


def move_secrets(urls: str) -> tuple[str, dict[str, str]]:
    """The URLs without user, password or token, and those as an environment: a command line is everybody's to read."""
    found = re.search(r"(?:^|,|://)([^/,@\s]*)@", urls)
    if not found:
        return urls, {}
    user, _, password = found[1].partition(":")
    moved = Access(user=user, password=password) if password else Access(token=user)
    return redact_url(urls), {name: value for name, value in moved.variables().items() if name != variable("inbox")}
