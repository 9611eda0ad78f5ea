#!/usr/bin/env python3
"""Makes a keystore of format 1 as MySQL's component left it, byte by byte from docs/keystore-format.md.

`keyring_key_store('dbpass', 'SECRET', 'Winter2026!')`, then `keyring_key_remove('dbpass')`; and 'mail' with
'Sommer2026!', which was not removed. Never overwrites the file. Needs the package `cryptography`.
"""
import base64, hashlib, hmac, json, pathlib, struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
MADE = "2026-03-01T12:00:00Z"
STORE_KEY = bytes(range(32))


def check_value(key):
    return hmac.new(key, b"keyward check value v1", hashlib.sha256).hexdigest()[:32]


def wrapped(data_id, purpose, key):
    """AES-256-GCM under the store key, bound to its place."""
    fields = [b"keyward data key v1", ID.encode(), b"named", data_id, b"root@localhost"]
    fields += [struct.pack(">I", 1), purpose.encode(), struct.pack(">I", 1)]
    bound = b"".join(struct.pack(">Q", len(field)) + field for field in fields)
    nonce = hashlib.sha256(data_id).digest()[:12]
    data = nonce + AESGCM(STORE_KEY).encrypt(nonce, key, bound)
    return {"store_key": 1, "data": base64.b64encode(data).decode()}


def key(data_id, secret, states):
    purpose = f"keyring:SECRET:{len(secret)}"
    event = lambda state: {"state": state, "at": MADE, "actor": "mysqld", "reason": "keyring"}
    version = {"version": 1, "cipher": purpose, "state": states[-1], "created": MADE, "check": check_value(secret)}
    version["history"] = [event(state) for state in states]
    if states[-1] != "destroyed":
        version["wrapped"] = wrapped(data_id.encode(), purpose, secret)
    return {"name": {"data_id": data_id, "auth_id": "root@localhost"}, "versions": [version]}


wrapping = {"provider": "local", "key": {"kek": "test", "algorithm": "none", "blob": "AQID"}}
document = {
    "format": "keyward-keystore",
    "version": 1,
    "id": ID,
    "generation": 3,
    "created": MADE,
    "store_keys": [{"number": 1, "created": MADE, "check": check_value(STORE_KEY), "wraps": 2, "wrappings": [wrapping]}],
    "keys": [
        key("dbpass", b"Winter2026!", ["active", "retired", "destroyed"]),
        key("mail", b"Sommer2026!", ["active"]),
    ],
}
extracted = hmac.new(ID.encode(), STORE_KEY, hashlib.sha256).digest()
derived = hmac.new(extracted, b"keyward keystore mac v1\x01", hashlib.sha256).digest()
text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
document["mac"] = hmac.new(derived, text.encode(), hashlib.sha256).hexdigest()
path = pathlib.Path(__file__).parent / "v1-mysql-secrets.json"
if not path.exists():
    path.write_text(json.dumps(document, indent=1) + "\n")
