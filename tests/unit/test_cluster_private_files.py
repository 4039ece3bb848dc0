"""Files that only their owner may read, written whole."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from millpond_cluster.local.kubeconfigs import write_private


def test_threads_that_write_one_file_at_once_all_succeed_and_leave_it_whole(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    texts = [str(number) * 1000 for number in range(8)]

    def write(text: str) -> None:
        for _ in range(200):
            write_private(file, text)

    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(write, texts))
    assert file.read_text() in texts
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
