"""`python -m millpond.worker` (and `millpond-worker`): reads the environment, runs the worker, ends with a clear code.

Without a command it is a pod's worker. `join` is one outside the cluster (`remote`), `rights` prints what its user at
NATS needs.

0: stopped as asked. 2: the environment or the app is wrong (one sentence on stderr says what); starting it again
without a change would not help. 88 (`supervision.pod.EXIT_CODE`): more child processes crashed than the pool allows.
"""

import os
import sys
import threading
import traceback

from millpond_api.remote import format_rights, make_rights

from millpond.access import AccessError, read_access
from millpond.settings import SettingsError, read_settings
from millpond.worker.joining import REMOTE, make_join_environment, make_parser
from millpond.worker.loading import AppNotLoadable, load_app
from millpond.worker.logs import configure_logging
from millpond.worker.process import leave, run_worker
from millpond.worker.remote import run_remote

MISCONFIGURED = 2


def main(words: list[str]) -> int:
    """The exit code."""
    given = make_parser().parse_args(words)
    if given.command == "join" and (words[1:] or REMOTE not in os.environ):
        environment = make_join_environment(vars(given), os.environ)
        # Anew, without the options: a password among them would stand in `ps`.
        os.execve(sys.executable, [sys.executable, "-m", "millpond.worker", "join"], environment)
    configure_logging()
    try:
        if given.command == "rights":
            return _print_rights(given.namespace, given.pool, limits=given.limits)
        read_access()
        if given.command == "join":
            return run_remote()
        settings = read_settings()
        return leave(run_worker(settings, load_app(settings.app)))
    except AppNotLoadable as error:
        if error.__cause__:
            traceback.print_exception(error.__cause__)
        return _refuse(str(error))
    except (SettingsError, AccessError) as error:
        return _refuse(str(error))


def _print_rights(namespace: str, pool: str, *, limits: bool) -> int:
    try:
        print(format_rights(make_rights(namespace, pool, limits=limits)), end="")
    except ValueError as error:
        return _refuse(str(error))
    return 0


def _refuse(text: str) -> int:
    print(f"millpond worker: {text}", file=sys.stderr)
    return MISCONFIGURED


def start() -> None:
    """Leave even if an abandoned handler still runs: joining its thread could take for ever."""
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    start()
