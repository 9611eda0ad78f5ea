"""Drives a Key Vault by Microsoft's own client and credentials; prints what it found as JSON."""

import base64
import datetime
import json
import sys

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import (
    CertificateCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)
from azure.keyvault.keys import KeyClient, _version
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm

order = json.loads(sys.argv[1])
checks = 0


def check(holds, what):
    global checks
    checks += 1
    if not holds:
        sys.exit(f"not so: {what}")


def refused(status, inner, call):
    try:
        call()
    except HttpResponseError as error:
        check(error.status_code == status, (status, error.status_code))
        found = error.error.innererror or {} if error.error else {}
        check(not inner or found.get("code") == inner, (inner, found))
        return
    sys.exit(f"it went through; {status} was due")


entra = {"authority": order["url"], "disable_instance_discovery": True}


def client(credential):
    return KeyClient(order["url"], credential, verify_challenge_resource=False)


def of(tenant, account, proof):
    return ClientSecretCredential(tenant, account, proof, **entra)


secret = of(order["tenant"], order["client"], order["secret"])
keys = client(secret)

# Every kind of credentials leads to the key.
certificate = CertificateCredential(
    order["tenant"], order["client"], certificate_path=order["certificate"], **entra
)
federated = WorkloadIdentityCredential(
    tenant_id=order["tenant"],
    client_id=order["client"],
    token_file_path=order["token"],
    **entra,
)
asserted = ClientAssertionCredential(
    order["tenant"], order["client"], lambda: open(order["token"]).read(), **entra
)
for credential in [secret, certificate, federated, asserted, ManagedIdentityCredential()]:
    found = client(credential).get_key("store")
    check(found.properties.version == order["version"], type(credential))
    check(found.key_type == order["kty"] and found.properties.enabled, "the key")
    check(found.properties.recovery_level == "Recoverable", "recovery level")
try:
    client(of(order["tenant"], order["client"], "another")).get_key("store")
    sys.exit("a wrong secret went through")
except Exception as error:
    check("AADSTS7000215" in str(error), error)

# What keyward wrapped opens here, and keyward opens what is wrapped here: RSA by the public key on this side.
algorithm = KeyWrapAlgorithm(order["algorithm"])
crypto = CryptographyClient(keys.get_key("store"), secret, verify_challenge_resource=False)
wrapped, payload = base64.b64decode(order["wrapped"]), base64.b64decode(order["payload"])
check(crypto.unwrap_key(algorithm, wrapped).key == payload, "keyward's key")
if order["kty"] == "RSA":
    made = crypto.wrap_key(algorithm, payload)
    check(made.key_id.endswith(order["version"]), "kid")
    theirs = made.encrypted_key
else:
    # With an AES key that never leaves the HSM, the client would wrap by one that it makes up.
    what = crypto._models.KeyOperationsParameters(algorithm=algorithm, value=payload)
    made = crypto._client.wrap_key("store", order["version"], parameters=what)
    check(made.kid.endswith(order["version"]), "kid")
    theirs = made.result
remote = CryptographyClient(keys.get_key("store").id, secret, verify_challenge_resource=False)
check(remote.unwrap_key(algorithm, theirs).key == payload, "by the whole way")
refused(400, None, lambda: crypto.unwrap_key(algorithm, wrapped[:-8] + b"\0" * 8))

# Keys, versions, attributes, deletion.
made = keys.create_rsa_key("made", size=2048)
check(made.key.n and made.key.e == b"\x01\x00\x01", "the public key")
second = keys.create_rsa_key("made", size=2048)
check(second.properties.version != made.properties.version, "a second version")
check(keys.get_key("made").id == second.id, "the newest")
check(keys.get_key("made", made.properties.version).id == made.id, "the older")
of_made = CryptographyClient(second, secret, verify_challenge_resource=False)
RSA = KeyWrapAlgorithm.rsa_oaep_256
blob = of_made.wrap_key(RSA, b"k" * 32).encrypted_key
keys.update_key_properties("made", second.properties.version, enabled=False)
refused(403, "KeyDisabled", lambda: of_made.unwrap_key(RSA, blob))
past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
changed = keys.update_key_properties(
    "made", second.properties.version, enabled=True, expires_on=past
)
check(changed.properties.expires_on == past, "the end")
check(of_made.unwrap_key(RSA, blob).key == b"k" * 32, "it still unwraps")
try:
    keys.get_key("none")
    sys.exit("a key that is not there")
except ResourceNotFoundError as error:
    check(error.error.code == "KeyNotFound", error.error.code)
deleted = keys.begin_delete_key("made").result()
check(deleted.scheduled_purge_date > deleted.deleted_date, "purge date")
refused(409, "ObjectIsDeletedButRecoverable", lambda: keys.create_rsa_key("made"))
check(keys.get_deleted_key("made").name == "made", "deleted")
check(keys.begin_recover_deleted_key("made").result().name == "made", "recovered")

print(
    json.dumps(
        {
            "package": _version.VERSION,
            "checks": checks,
            "wrapped": base64.b64encode(theirs).decode(),
        }
    )
)
