"""Credentials for tests as nsc makes them: an operator, an account and a user as JWTs, and the server's configuration.

Owns the keys of one test, which are worth nothing outside it (JWT v2 of NATS, "ed25519-nkey": nats-io/jwt).
"""

import base64
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys

OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3
"""The prefixes of public keys: they begin with O, A and U (nats-io/nkeys, strkey.go)."""
SEED = 18 << 3


@dataclass(frozen=True)
class Key:
    """A pair of keys."""

    seed: bytes
    public: str

    @classmethod
    def make(cls, kind: int) -> "Key":
        seed = _encode(bytes([SEED | kind >> 5, (kind & 31) << 3]) + secrets.token_bytes(32))
        return cls(seed, nkeys.from_seed(bytearray(seed)).public_key.decode())

    def sign(self, claims: dict[str, Any]) -> str:
        """A JWT of these claims."""
        parts = [_plain({"typ": "JWT", "alg": "ed25519-nkey"}), _plain(claims)]
        signature = nkeys.from_seed(bytearray(self.seed)).sign(".".join(parts).encode())
        return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


@dataclass(frozen=True)
class Realm:
    """One account with JetStream: `config` for the server, and credentials files for users."""

    operator: Key
    account: Key

    @classmethod
    def make(cls) -> "Realm":
        return cls(Key.make(OPERATOR), Key.make(ACCOUNT))

    def config(self) -> str:
        system = Key.make(ACCOUNT)
        limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
        stored = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
        kinds = {"account": {"limits": limits | stored | {"wildcards": True}}, "operator": {}, "system": {}}
        kinds["system"] = {"limits": limits | {"wildcards": True}}
        account = self._claim(self.operator, self.account, "account", kinds["account"])
        of_system = self._claim(self.operator, system, "account", kinds["system"])
        operator = self._claim(self.operator, self.operator, "operator", {"system_account": system.public})
        return f"""operator: {operator}
system_account: {system.public}
resolver: MEMORY
resolver_preload: {{
  {self.account.public}: {account}
  {system.public}: {of_system}
}}
"""

    def write_user(self, file: Path, publish: tuple[str, ...] = (), subscribe: tuple[str, ...] = ()) -> str:
        """A credentials file; without subjects the user may do everything."""
        user = Key.make(USER)
        limits: dict[str, Any] = {"subs": -1, "data": -1, "payload": -1}
        if publish:
            answers = {"max": 10, "ttl": 60_000_000_000}
            limits |= {"pub": {"allow": list(publish)}, "sub": {"allow": list(subscribe)}, "resp": answers}
        jwt = self._claim(self.account, user, "user", limits)
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
        return str(file)

    @staticmethod
    def _claim(by: Key, of: Key, kind: str, nats: dict[str, Any]) -> str:
        claims = {"jti": secrets.token_hex(16), "iat": int(time.time()), "iss": by.public, "name": kind}
        return by.sign(claims | {"sub": of.public, "nats": {**nats, "type": kind, "version": 2}})


def _plain(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _encode(raw: bytes) -> bytes:
    """Base32 with a CRC-16 (XMODEM), as nkeys writes seeds."""
    crc = 0
    for byte in raw:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021) & 0xFFFF if crc & 0x8000 else crc << 1 & 0xFFFF
    return base64.b32encode(raw + crc.to_bytes(2, "little")).rstrip(b"=")
