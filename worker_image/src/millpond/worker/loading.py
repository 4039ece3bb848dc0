"""Finds the user's app: imports `module` and takes `app` from it.

It runs user code (the module's top level), so anything may go wrong here; all of it becomes `AppNotLoadable`.
"""

import importlib
import os
import sys

from millpond.app import App


class AppNotLoadable(Exception):
    """There is no app where MILLPOND_APP says; the text says what was found instead."""


def load_app(where: str) -> App:
    """The app at `module:attribute`. The working directory is importable, as with `python -m`."""
    module_name, _, attribute = where.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: object = importlib.import_module(module_name)
    # The module is the user's: whatever it raises at import (SystemExit too) means that there is no app to run.
    except (Exception, SystemExit) as error:
        raise AppNotLoadable(
            f"module {module_name!r} could not be imported: {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise AppNotLoadable(f"module {module_name!r} has no {attribute!r}: set MILLPOND_APP=module:app")
        found = getattr(found, part)
    if not isinstance(found, App):
        raise AppNotLoadable(f"{where} is {type(found).__name__}, not a millpond.App")
    if not found.handlers:
        raise AppNotLoadable(f"{where} has no handler: decorate at least one function with @app.task(name)")
    return found
