"""The cluster's own certificate authority and everything signed by it.

Owns the keys and certificates under the state folder. They are made once per cluster and kept across crashes, so that
a kubeconfig handed out stays valid; when the host's address changed, only the server certificate is made anew
(ensure_ looks at its names). It must not know what the components do with them.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = datetime.timedelta(days=3650)
_USAGES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


@dataclass(frozen=True)
class Subject:
    """Who a certificate is for.

    Kubernetes reads the user from the common name and the groups from the organizations.
    """

    file: str
    common_name: str
    groups: tuple[str, ...] = ()


ADMIN = Subject("admin", "kubernetes-admin", ("system:masters",))
CLIENTS = (
    ADMIN,
    Subject("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",)),
    Subject("controller-manager", "system:kube-controller-manager"),
    Subject("scheduler", "system:kube-scheduler"),
    Subject("kube-proxy", "system:kube-proxy"),
    Subject("coredns", "system:coredns"),
    Subject("kwok", "millpond:kwok", ("system:masters",)),
    Subject("provisioner", "millpond:provisioner", ("system:masters",)),
)


def make_kubelet_subject(node: str) -> Subject:
    return Subject("kubelet", f"system:node:{node}", ("system:nodes",))


@dataclass(frozen=True)
class Authority:
    """A certificate authority's key pair."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def ensure_certificates(folder: Path, node: str, server_names: Sequence[str]) -> None:
    """Makes what is missing.

    Authority, front proxy, service account key, one client certificate per component, the server's.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = _ensure_authority(folder, "ca", "millpond")
    for subject in (*CLIENTS, make_kubelet_subject(node)):
        if not (folder / f"{subject.file}.crt").exists():
            _write_signed(folder, subject, authority, [])
    front = _ensure_authority(folder, "front-proxy-ca", "millpond-front-proxy")
    if not (folder / "front-proxy-client.crt").exists():
        _write_signed(folder, Subject("front-proxy-client", "front-proxy-client"), front, [])
    if not (folder / "service-account.pub").exists():
        _write_service_account_key(folder)
    if not _covers(folder / "apiserver.crt", server_names):
        _write_signed(folder, Subject("apiserver", "kube-apiserver"), authority, server_names)


def ensure_serving_folder(folder: Path, target: Path, server_names: Sequence[str]) -> None:
    """A folder as cert-manager's mounts are: ca.crt, tls.crt and tls.key, for a server that `server_names` reach."""
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(target / "ca.crt", (folder / "ca.crt").read_bytes())
    if not _covers(target / "tls.crt", server_names):
        _write_signed(
            target, Subject("tls", server_names[0]), _ensure_authority(folder, "ca", "millpond"), server_names
        )


def _covers(file: Path, names: Sequence[str]) -> bool:
    if not file.exists():
        return False
    extension = x509.load_pem_x509_certificate(file.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return {str(name.value) for name in extension.value} >= set(names)


def _ensure_authority(folder: Path, file: str, common_name: str) -> Authority:
    key_file, certificate_file = folder / f"{file}.key", folder / f"{file}.crt"
    if certificate_file.exists():
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return Authority(key, x509.load_pem_x509_certificate(certificate_file.read_bytes()))
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(True, False, True, False, False, True, True, False, False)
    certificate = (
        _start(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_file, key)
    _write(certificate_file, certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(key, certificate)


def _write_signed(folder: Path, subject: Subject, authority: Authority, server_names: Sequence[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in subject.groups]
    name = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)])
    usage = x509.KeyUsage(True, False, True, False, False, False, False, False, False)
    builder = (
        _start(name, authority.certificate.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(_USAGES), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if server_names:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in server_names])
        builder = builder.add_extension(alternatives, critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    _write_key(folder / f"{subject.file}.key", key)
    _write(folder / f"{subject.file}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _write_service_account_key(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write_key(folder / "service-account.key", key)
    _write(folder / "service-account.pub", public)


def _start(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    _write(file, key.private_bytes(encoding, form, serialization.NoEncryption()))


def _write(file: Path, content: bytes) -> None:
    """By way of a second name, so that a kill in between never leaves half a certificate."""
    scratch = file.with_suffix(file.suffix + ".new")
    scratch.touch(mode=0o600)
    scratch.write_bytes(content)
    scratch.replace(file)
