"""Command line and environment of a worker that joins from outside the cluster: `millpond-worker join`. Pure.

Owns the options, which all stand in for MILLPOND_ variables, and how the pool's settings and the machine's own become
one environment. A secret that was given as an option is moved into the environment before anything else is done: the
process then begins anew without it (`commands`), because every user of the machine may read a command line.
"""

import argparse
import socket
from collections.abc import Mapping, Sequence

from millpond_api import subjects
from millpond_api.remote import OWN, PoolSettings

from millpond.access import move_secrets, variable
from millpond.settings import PREFIX

REMOTE = f"{PREFIX}REMOTE"
"""The host of a worker outside the cluster: what makes it one."""
URL = f"{PREFIX}NATS_URL"


def make_parser() -> argparse.ArgumentParser:
    """`join` and `rights`; without either it is a pod's worker, which its environment describes."""
    parser = argparse.ArgumentParser("millpond-worker", description="A worker of a Millpond pool.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    join = commands.add_parser(
        "join",
        help="work for a pool from outside the cluster",
        description="Work for a pool from outside the cluster. Each option may stand in the environment instead; a "
        "secret is best placed there, or in a file.",
    )
    for option, text in _OPTIONS.items():
        join.add_argument(f"--{option}", metavar=_metavar(option), help=f"{text} [{_variable(option)}]")
    rights = commands.add_parser("rights", help="print the permissions that a user of NATS needs for `join`")
    rights.add_argument("--namespace", required=True)
    rights.add_argument("--pool", required=True)
    rights.add_argument("--limits", action="store_true", help="also those of pools with limits or unique tasks")
    return parser


_OPTIONS = {
    "url": "NATS, such as nats://mill.example.org:4222 or tls://…; several with commas",
    "namespace": "namespace of the pool",
    "pool": "the pool",
    "app": "module:app; the pool's own if not given",
    "concurrency": "tasks at once; the pool's own if not given",
    "name": "name of the worker; the host's if not given",
    "creds": "credentials file (needs millpond[creds])",
    "user": "user of NATS",
    "password": "its password: better in the environment",
    "token": "token of NATS: better in the environment",
    "ca": "PEM file with the authority that NATS's certificate is checked by",
    "cert": "PEM file with a certificate of ours, where NATS asks for one",
    "key": "PEM file with its key",
    "inbox": "first words of the subjects of answers",
}
_OF_NATS = ("creds", "user", "password", "token", "ca", "cert", "key", "inbox")


def _variable(option: str) -> str:
    if option in _OF_NATS:
        return variable(option)
    return {"url": URL, "name": f"{PREFIX}WORKER"}.get(option, f"{PREFIX}{option.upper()}")


def _metavar(option: str) -> str:
    return "FILE" if option in ("creds", "ca", "cert", "key") else option.upper()


def make_join_environment(given: Mapping[str, str | None], environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that says the same as the options given; a URL holds no secret in it any more."""
    said = {_variable(name): value for name, value in given.items() if name in _OPTIONS and value is not None}
    made = {**environment, **said}
    if URL in made:
        made[URL], secrets = move_secrets(made[URL])
        made = {**secrets, **made}
    # A user with least rights hears the answers to its own pool's remote workers alone.
    where = (made.get(f"{PREFIX}NAMESPACE", ""), made.get(f"{PREFIX}POOL", ""))
    inbox = {} if made.get(variable("inbox")) or not all(where) else {variable("inbox"): make_inbox(where)}
    return made | inbox | {REMOTE: made.get(REMOTE) or socket.gethostname()}


def make_inbox(where: tuple[str, str]) -> str:
    """What answers to the pool's remote workers begin with; empty for names that no pool can have (told later)."""
    try:
        return subjects.remote_inbox(*where)
    except ValueError:
        return ""


def make_worker_environment(told: PoolSettings, own: Mapping[str, str]) -> dict[str, str]:
    """What the worker is started with: the pool's word, but for what only this machine knows."""
    kept = {name: own[name] for name in OWN if own.get(name)}
    return {f"{PREFIX}HTTP_PORT": "0", **own, **told.variables, **kept}


def differs(told: PoolSettings, now: PoolSettings, own: Mapping[str, str]) -> Sequence[str]:
    """Variables by which a worker that was started with `told` is out of date."""
    before, after = (make_worker_environment(one, own) for one in (told, now))
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
