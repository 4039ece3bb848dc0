"""Certificates are made once, by the cluster's own authority; only the server's follows the host's address."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID
from millpond_cluster.local.certificates import ensure_certificates


def read(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_every_certificate_is_signed_by_its_authority(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, "x-node", ["localhost", "127.0.0.1"])
    for file in tmp_path.glob("*.crt"):
        authority = "front-proxy-ca" if file.stem.startswith("front-proxy") else "ca"
        read(tmp_path, file.stem).verify_directly_issued_by(read(tmp_path, authority))


def test_the_kubelet_is_the_user_that_the_node_authorizer_expects(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, "x-node", ["localhost"])
    subject = read(tmp_path, "kubelet").subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:x-node"
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"


def test_keys_are_private(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, "x-node", ["localhost"])
    assert {file.stat().st_mode & 0o077 for file in tmp_path.glob("*.key")} == {0}


def test_a_new_host_address_renews_the_server_certificate_and_nothing_else(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, "x-node", ["localhost", "192.0.2.1"])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    ensure_certificates(tmp_path, "x-node", ["localhost", "192.0.2.1"])
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    ensure_certificates(tmp_path, "x-node", ["localhost", "192.0.2.2"])
    changed = {file.name for file in tmp_path.iterdir() if file.read_bytes() != before[file.name]}
    assert changed == {"apiserver.crt", "apiserver.key"}


def test_a_kill_between_key_and_certificate_is_completed(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, "x-node", ["localhost"])
    (tmp_path / "admin.crt").unlink()
    ensure_certificates(tmp_path, "x-node", ["localhost"])
    assert read(tmp_path, "admin").public_key().public_numbers().x  # type: ignore[union-attr]
