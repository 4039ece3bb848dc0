"""A worker's environment: what is missing or wrong is named, nothing is guessed."""

import pytest
from millpond.settings import Settings, SettingsError, read_settings

GOOD = {"NATS_URL": "nats://n:4222", "NAMESPACE": "ns", "POOL": "p", "APP": "handlers:app"}


def read(monkeypatch: pytest.MonkeyPatch, **changes: str | None) -> Settings:
    for name, value in {**GOOD, **changes}.items():
        if value is None:
            monkeypatch.delenv(f"MILLPOND_{name}", raising=False)
        else:
            monkeypatch.setenv(f"MILLPOND_{name}", value)
    return read_settings()


def test_the_four_required_variables_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(monkeypatch)
    assert (found.concurrency, found.classes, found.lease, found.poison_limit, found.grace) == (
        1,
        ("default",),
        15,
        3,
        25,
    )
    assert "." not in found.worker


def test_classes_keep_their_order_and_retry_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(monkeypatch, CLASSES="urgent, default ,bulk", RETRY='{"max_attempts": 9}')
    assert found.classes == ("urgent", "default", "bulk")
    assert found.retry.max_attempts == 9


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"POOL": None}, "MILLPOND_POOL is not set"),
        ({"APP": "handlers"}, "MILLPOND_APP='handlers' must be module:app"),
        ({"CONCURRENCY": "many"}, "MILLPOND_CONCURRENCY='many'"),
        ({"CONCURRENCY": "0"}, "greater than or equal to 1"),
        ({"POOL": "a.b"}, "may hold only letters"),
        ({"CLASSES": "a,b c"}, "may hold only letters"),
        ({"RETRY": "{"}, "MILLPOND_RETRY and MILLPOND_WEIGHTS are JSON"),
        ({"RETRY": '{"max_attempts": 0}'}, "MILLPOND_RETRY.max_attempts=0"),
        ({"LEASE": "0"}, "MILLPOND_LEASE"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], sentence: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        read(monkeypatch, **changes)
    assert sentence in str(refusal.value)
