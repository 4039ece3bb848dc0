"""Where the API server is and as whom one speaks to it; and the operator's own pages."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from millpond_operator import metrics
from millpond_operator.cluster.credentials import NoCredentials, load_access
from millpond_operator.serving import HUNG_AFTER, Pulse, respond


def write_kubeconfig(file: Path, user: dict[str, Any], **cluster: Any) -> str:
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    file.write_text(yaml.safe_dump(config))
    return str(file)


async def test_a_kubeconfig_with_a_token_is_a_header(tmp_path: Path) -> None:
    access = load_access(write_kubeconfig(tmp_path / "config", {"token": "secret"}))
    assert access.server == "https://127.0.0.1:6443"
    assert await access.authorization() == "Bearer secret"


async def test_a_token_in_a_file_is_read_again_when_it_was_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("old\n")
    access = load_access(write_kubeconfig(tmp_path / "config", {"tokenFile": str(tmp_path / "token")}))
    assert await access.authorization() == "Bearer old"
    (tmp_path / "token").write_text("new\n")
    assert await access.authorization() == "Bearer old"
    monkeypatch.setattr("millpond_operator.cluster.credentials.REREAD", 0.0)
    assert await access.authorization() == "Bearer new"


def test_a_login_by_a_command_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoCredentials, match="kubectl create token"):
        load_access(write_kubeconfig(tmp_path / "config", {"exec": {"command": "cloud"}}))


def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config"
    write_kubeconfig(file, {})
    file.write_text(file.read_text().replace("current-context: here", "current-context: there"))
    with pytest.raises(NoCredentials, match="'there'"):
        load_access(str(file))


def test_where_there_is_nothing_both_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(NoCredentials, match=r"no service account .* no kubeconfig"):
        load_access(mounted=tmp_path)


def test_a_certificate_that_is_none_does_not_pass_in_silence(tmp_path: Path) -> None:
    data = base64.b64encode(b"not a certificate").decode()
    with pytest.raises(OSError, match="PEM"):
        load_access(write_kubeconfig(tmp_path / "config", {"client-certificate-data": data, "client-key-data": data}))


def test_a_loop_that_hangs_is_unhealthy_and_metrics_are_text() -> None:
    metrics.TICK_SECONDS.observe(0.1)
    pulse = Pulse()
    assert respond(pulse, "/healthz")[0] == 200
    assert respond(pulse, "/nothing")[0] == 404
    status, kind, body = respond(pulse, "/metrics")
    assert (status, kind.startswith("text/plain")) == (200, True)
    assert b"millpond_tick_seconds_bucket" in body
    pulse.last -= HUNG_AFTER + 1
    assert respond(pulse, "/readyz")[0] == 503
