"""The operator that bench-scale measures is the one of its image."""

import subprocess
import sys
from pathlib import Path

from bench.scale.image import find_hidden, make_environment, read_malloc


def test_what_the_image_lacks_is_hidden_and_what_it_has_is_not() -> None:
    hidden = find_hidden()
    assert {"kubernetes", "rich", "requests", "pytest"} <= hidden
    assert not hidden & {"kopf", "aiohttp", "millpond", "millpond_api", "millpond_operator", "yaml", "pydantic"}


def test_an_operator_starts_without_what_is_hidden(tmp_path: Path) -> None:
    code = "import sys, millpond_operator.main; sys.exit('rich' in sys.modules or 'kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=make_environment(tmp_path), check=False).returncode == 0


def test_mallocs_settings_are_those_of_the_image() -> None:
    assert read_malloc("ENV PATH=/bin MALLOC_ARENA_MAX=2 \\\n    MALLOC_TRIM_THRESHOLD_=1\n") == {
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_TRIM_THRESHOLD_": "1",
    }
