"""Drives a Cloud KMS by Google's own client and credentials; prints what it found as JSON."""

import base64
import json
import sys

from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.auth import compute_engine, identity_pool, impersonated_credentials
from google.cloud import kms_v1
from google.oauth2 import credentials as person
from google.oauth2 import service_account

order = json.loads(sys.argv[1])
SCOPES = ["https://www.googleapis.com/auth/cloudkms"]
checks = 0


def check(holds, what):
    global checks
    checks += 1
    if not holds:
        sys.exit(f"not so: {what}")


def refused(status, call):
    try:
        call()
    except exceptions.GoogleAPICallError as error:
        check(error.response.json()["error"]["status"] == status, status)
        return
    sys.exit(f"it went through; {status} was due")


def client(credentials):
    options = ClientOptions(api_endpoint=order["url"])
    return kms_v1.KeyManagementServiceClient(
        transport="rest", credentials=credentials, client_options=options
    )


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def encrypt(kms, name, plain, aad):
    answer = kms.encrypt(
        request={
            "name": name,
            "plaintext": plain,
            "additional_authenticated_data": aad,
            "plaintext_crc32c": crc32c(plain),
            "additional_authenticated_data_crc32c": crc32c(aad),
        }
    )
    check(answer.verified_plaintext_crc32c, "plaintext verified")
    check(answer.verified_additional_authenticated_data_crc32c, "aad verified")
    check(answer.ciphertext_crc32c == crc32c(answer.ciphertext), "crc of the ciphertext")
    return answer


def decrypt(kms, name, blob, aad, crc=None):
    answer = kms.decrypt(
        request={
            "name": name,
            "ciphertext": blob,
            "additional_authenticated_data": aad,
            "ciphertext_crc32c": crc32c(blob) if crc is None else crc,
            "additional_authenticated_data_crc32c": crc32c(aad),
        }
    )
    check(answer.plaintext_crc32c == crc32c(answer.plaintext), "crc of the plaintext")
    return answer


signed = service_account.Credentials.from_service_account_file(order["service_account"])
kms = client(signed)

# Every kind of credentials leads to the key.
of_scope = service_account.Credentials.from_service_account_file(
    order["service_account"], scopes=SCOPES
)
federated = identity_pool.Credentials.from_file(order["federation"], scopes=SCOPES)
user = order["user"]
logged_in = person.Credentials(
    None,
    refresh_token=user["refresh_token"],
    client_id=user["client_id"],
    client_secret=user["client_secret"],
    token_uri=user["token_uri"],
)
became = impersonated_credentials.Credentials(
    of_scope.with_scopes(["https://www.googleapis.com/auth/iam"]),
    order["database"],
    SCOPES,
    iam_endpoint_override=order["impersonation"],
)
for credentials in [signed, of_scope, federated, logged_in, became, compute_engine.Credentials()]:
    found = client(credentials).get_crypto_key(name=order["key"])
    check(found.name == order["key"], type(credentials))
    check(found.primary.state == kms_v1.CryptoKeyVersion.CryptoKeyVersionState.ENABLED, "enabled")

# What keyward wrapped opens here, and keyward opens what is encrypted here.
aad, data = base64.b64decode(order["aad"]), base64.b64decode(order["data"])
opened = decrypt(kms, order["key"], base64.b64decode(order["wrapped"]), aad)
check(opened.plaintext == data and opened.used_primary, "keyward's key")
theirs = encrypt(kms, order["key"], data, aad)

# Keys, versions, states.
ring = "projects/keyward-test/locations/europe-west3/keyRings/python"
kms.create_key_ring(
    parent="projects/keyward-test/locations/europe-west3", key_ring_id="python", key_ring={}
)
purpose = {"purpose": kms_v1.CryptoKey.CryptoKeyPurpose.ENCRYPT_DECRYPT}
key = kms.create_crypto_key(parent=ring, crypto_key_id="k", crypto_key=purpose)
check(key.name == f"{ring}/cryptoKeys/k", "name of the key")
refused(
    "ALREADY_EXISTS",
    lambda: kms.create_crypto_key(parent=ring, crypto_key_id="k", crypto_key=purpose),
)
refused("NOT_FOUND", lambda: kms.get_crypto_key(name=f"{ring}/cryptoKeys/none"))
one = encrypt(kms, key.name, b"one", b"bound")
check(one.name == key.primary.name, "name of the version")
refused("INVALID_ARGUMENT", lambda: decrypt(kms, key.name, one.ciphertext, b"other"))
refused("INVALID_ARGUMENT", lambda: decrypt(kms, key.name, one.ciphertext, b"bound", 1))
refused("INVALID_ARGUMENT", lambda: decrypt(kms, key.name, b"\0" * 60, b"bound"))
version = kms.create_crypto_key_version(parent=key.name, crypto_key_version={})
check(version.name.endswith("/2"), "a second version")
kms.update_crypto_key_primary_version(name=key.name, crypto_key_version_id="2")
check(encrypt(kms, key.name, b"two", b"").name == version.name, "the new primary")
check(encrypt(kms, one.name, b"two", b"").name == one.name, "the one that is named")
old = decrypt(kms, key.name, one.ciphertext, b"bound")
check(old.plaintext == b"one" and not old.used_primary, "the old version")
STATES = kms_v1.CryptoKeyVersion.CryptoKeyVersionState
for state in [STATES.DISABLED, STATES.ENABLED]:
    changed = kms.update_crypto_key_version(
        crypto_key_version={"name": one.name, "state": state}, update_mask={"paths": ["state"]}
    )
    check(changed.state == state, "the state")
    if state == STATES.DISABLED:
        refused(
            "FAILED_PRECONDITION",
            lambda: decrypt(kms, key.name, one.ciphertext, b"bound"),
        )
check(kms.destroy_crypto_key_version(name=one.name).state == STATES.DESTROY_SCHEDULED, "destroy")
refused("FAILED_PRECONDITION", lambda: decrypt(kms, key.name, one.ciphertext, b"bound"))
check(kms.restore_crypto_key_version(name=one.name).state == STATES.DISABLED, "restore")
wanted = ["cloudkms.cryptoKeyVersions.useToDecrypt"]
rights = kms.test_iam_permissions(request={"resource": key.name, "permissions": wanted})
check(list(rights.permissions) == wanted, "rights")

print(
    json.dumps(
        {
            "version": kms_v1.gapic_version.__version__,
            "checks": checks,
            "ciphertext": base64.b64encode(theirs.ciphertext).decode(),
        }
    )
)
