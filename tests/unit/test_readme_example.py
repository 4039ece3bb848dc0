"""The handler that the README shows is one that runs, word for word."""

import re
from pathlib import Path
from typing import Any

from millpond.testing import Pool

README = Path(__file__).parents[2] / "README.md"


async def test_the_handler_of_the_readme_runs_as_it_stands_there() -> None:
    found = re.search(r"```python\n(# census\.py\n.*?)```", README.read_text(), re.DOTALL)
    assert found
    written: dict[str, Any] = {}
    exec(found.group(1), written)
    async with Pool(written["app"]) as pool:
        assert await pool.call("census.parse", str(README)) == {"lines": len(README.read_text().splitlines())}
