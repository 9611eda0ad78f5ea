#!/usr/bin/env python3
"""Makes the golden keystore files that must not open, from those that do.

A second implementation of the file's check (docs/keystore-format.md), so that a broken rule can be
told from a broken check: files named "signed" have a right check over a wrong content.
Run it after a new format version; it never overwrites a file. Needs the package `cryptography`.
"""
import base64, copy, hashlib, hmac, json, pathlib, struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = pathlib.Path(__file__).parent
MASK = (1 << 64) - 1


def store_key(number):
    """The tests' store key: 32 bytes of SplitMix64 from the seed number + 1."""
    state, out = number + 1, b""
    for _ in range(4):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out += struct.pack("<Q", z ^ (z >> 31))
    return out


def hkdf(salt, key, info):
    """HKDF-SHA-256, 32 bytes."""
    extracted = hmac.new(salt.encode(), key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def secret(document):
    """The keystore secret, unwrapped with the tests' store key."""
    number = document["secret"]["store_key"]
    fields = b"keyward keystore secret v1", document["id"].encode(), struct.pack(">I", number)
    bound = b"".join(struct.pack(">Q", len(field)) + field for field in fields)
    wrapped = base64.b64decode(document["secret"]["data"])
    return AESGCM(store_key(number)).decrypt(wrapped[:12], wrapped[12:], bound)


def check(document, by=None):
    """HMAC-SHA-256 over the compact JSON without `mac`; the key as format 1 or 2 derives it."""
    key = store_key(document["store_keys"][-1]["number"])
    if by is None:
        by = secret(document) if document["version"] == 2 else None
    if by is None:
        derived = hkdf(document["id"], key, b"keyward keystore mac v1")
    else:
        derived = hkdf(document["id"], by + key, b"keyward keystore mac v2")
    body = {name: value for name, value in document.items() if name != "mac"}
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return hmac.new(derived, text.encode(), hashlib.sha256).hexdigest()


def check_line(line, before, document):
    """HMAC-SHA-256 over the check before it and the line's compact JSON without `mac`."""
    key = store_key(document["store_keys"][-1]["number"])
    derived = hkdf(document["id"], secret(document) + key, b"keyward keystore line mac v2")
    body = {name: value for name, value in line.items() if name != "mac"}
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return hmac.new(derived, bytes.fromhex(before) + text.encode(), hashlib.sha256).hexdigest()


def write(name, document, signed=False):
    if signed:
        # The secret of the file as it was, for what breaks it or its binding.
        document["mac"] = check(document, SECRET)
        name = "signed-" + name
    indent = 1 if FORMAT == 1 else None
    text = document if isinstance(document, str) else json.dumps(document, indent=indent, ensure_ascii=False)
    path = HERE / f"v{FORMAT}-{name}.json"
    if not path.exists():
        path.write_text(text)


def read(name):
    text = (HERE / f"v{FORMAT}-{name}.opens.json").read_text()
    document = json.loads(text)
    assert check(document) == document["mac"], name
    return text, document


def edit(name, change, both=False):
    """A file edited by `change`: with the old check, and with a right one if `both`."""
    # The old check over a broken rule shows no more than format 1's files do.
    for signed in (False, True) if both and FORMAT == 1 else (both,):
        document = copy.deepcopy(ALL)
        change(document)
        write(f"{name}.corrupt", document, signed)


def first(document, key=0):
    return document["keys"][key]["versions"][-1]


def put(holder, name, value):
    holder[name] = value


def swap_states(document):
    versions = document["keys"][0]["versions"]
    versions[1]["state"], versions[2]["state"] = versions[2]["state"], versions[1]["state"]


def flip(text, digit):
    return text[:-1] + ("0" if digit(text[-1]) else "1")


def misplaced(name, change, outcome="key-corrupt"):
    document = copy.deepcopy(ALL)
    change(document)
    write(f"{name}.{outcome}", document, signed=True)


def move(document, to):
    first(document, to)["wrapped"] = copy.deepcopy(first(document)["wrapped"])


def flip_wrapped(at):
    def change(document):
        data = bytearray(base64.b64decode(first(document)["wrapped"]["data"]))
        data[at] ^= 1
        first(document)["wrapped"]["data"] = base64.b64encode(data).decode()
    return change


def both_formats():
    """What is wrong in either format."""
    write("laid-out-anew.opens", copy.deepcopy(ALL))

    # The check over the file.
    edit("state-edited", lambda d: (put(first(d, 4), "state", "retired"), put(first(d, 4)["history"][-1], "state", "retired")))
    edit("states-swapped", swap_states, both=True)
    edit("cipher-edited", lambda d: put(first(d), "cipher", "aes-256-cbc"))
    edit("created-edited", lambda d: put(first(d), "created", "2020-01-01T00:00:00Z"))
    edit("history-edited", lambda d: put(first(d)["history"][0], "actor", "nobody"))
    edit("retention-removed", lambda d: d["keys"][0]["versions"][1].pop("retain_until"))
    edit("plan-edited", lambda d: put(first(d, 1)["planned"], "at", "2020-01-01T00:00:00Z"))
    edit("generation-edited", lambda d: put(d, "generation", 2))
    edit("id-edited", lambda d: put(d, "id", d["id"][:-1] + "0"))
    edit("wraps-edited", lambda d: put(d["store_keys"][-1], "wraps", 0))
    edit("wrapping-edited", lambda d: put(d["store_keys"][-1]["wrappings"][0]["key"], "kek", "other"))
    edit("wrapping-removed", lambda d: d["store_keys"][-1]["wrappings"].pop())
    edit("key-removed", lambda d: d["keys"].pop(1))
    edit("version-removed", lambda d: d["keys"][0]["versions"].pop(0))
    edit("mac-edited", lambda d: put(d, "mac", ("0" if d["mac"][0] != "0" else "1") + d["mac"][1:]))
    edit("other-keystores-mac", lambda d: put(d, "mac", KEYS["mac"]))
    edit("other-keystores-key", lambda d: put(d, "keys", d["keys"][:3] + [KEYS["keys"][2]] + d["keys"][4:]), both=False)

    # The rules of the contents, with a right check, too.
    edit("unknown-member", lambda d: put(d, "comment", "hello"), both=True)
    edit("unknown-member-of-a-version", lambda d: put(first(d), "comment", "hello"), both=True)
    edit("unknown-member-of-a-name", lambda d: put(d["keys"][-1]["name"], "comment", "hello"), both=True)
    edit("unknown-cipher", lambda d: put(first(d), "cipher", "rot13"), both=True)
    edit("unknown-state", lambda d: put(first(d), "state", "lost"), both=True)
    edit("key-twice", lambda d: d["keys"].insert(1, copy.deepcopy(d["keys"][0])), both=True)
    edit("keys-out-of-order", lambda d: d["keys"].reverse(), both=True)
    edit("version-twice", lambda d: d["keys"][0]["versions"].append(copy.deepcopy(first(d))), both=True)
    edit("versions-out-of-order", lambda d: d["keys"][0]["versions"].reverse(), both=True)
    edit("two-active", lambda d: (put(d["keys"][0]["versions"][1], "state", "active"), put(d["keys"][0]["versions"][1]["history"][-1], "state", "active")), both=True)
    edit("no-version", lambda d: put(d["keys"][0], "versions", []), both=True)
    edit("version-0", lambda d: put(first(d), "version", 0), both=True)
    edit("version-of-the-abi", lambda d: put(first(d), "version", 4294967295), both=True)
    edit("key-0", lambda d: put(d["keys"][0], "name", 0), both=True)
    edit("state-not-of-history", lambda d: put(first(d, 4), "state", "retired"), both=True)
    edit("no-history", lambda d: put(first(d), "history", []), both=True)
    edit("tombstone-with-key", lambda d: put(d["keys"][0]["versions"][0], "wrapped", first(d)["wrapped"]), both=True)
    edit("living-without-key", lambda d: first(d).pop("wrapped"), both=True)
    edit("impossible-plan", lambda d: put(first(d, 1)["planned"], "state", "retired"), both=True)
    edit("wrapped-too-short", lambda d: put(first(d)["wrapped"], "data", first(d)["wrapped"]["data"][4:]), both=True)
    edit("wrapped-not-base64", lambda d: put(first(d)["wrapped"], "data", "*" * 80), both=True)
    edit("wrapped-by-a-retired-store-key", lambda d: put(first(d)["wrapped"], "store_key", 1), both=True)
    edit("generation-0", lambda d: put(d, "generation", 0), both=True)
    edit("id-no-uuid", lambda d: put(d, "id", "keystore"), both=True)
    edit("format-version-0", lambda d: put(d, "version", 0), both=True)
    edit("another-format", lambda d: put(d, "format", "another"), both=True)
    edit("store-key-twice", lambda d: put(d["store_keys"][0], "number", 2), both=True)
    edit("store-key-0", lambda d: put(d["store_keys"][0], "number", 0), both=True)
    edit("no-active-store-key", lambda d: put(d["store_keys"][1], "retired", d["created"]), both=True)
    edit("two-active-store-keys", lambda d: d["store_keys"][0].pop("retired"), both=True)
    edit("active-store-key-not-wrapped", lambda d: put(d["store_keys"][1], "wrappings", []), both=True)
    edit("retired-store-key-wrapped", lambda d: put(d["store_keys"][0], "wrappings", d["store_keys"][1]["wrappings"]), both=True)
    edit("provider-twice", lambda d: d["store_keys"][1]["wrappings"].append(d["store_keys"][1]["wrappings"][0]), both=True)
    edit("store-keys-check-edited", lambda d: put(d["store_keys"][1], "check", "0" * 32), both=True)
    edit("control-character-in-reason", lambda d: put(first(d)["history"][0], "reason", "a\tb"), both=True)

    # The text.
    write("truncated.corrupt", ALL_TEXT[: len(ALL_TEXT) // 2])
    write("last-brace-missing.corrupt", ALL_TEXT.rstrip()[:-1])
    write("empty-file.corrupt", "")
    write("not-json.corrupt", "1;0123456789abcdef0123456789abcdef\n")
    write("more-behind.corrupt", ALL_TEXT + ALL_TEXT)
    write("member-twice.corrupt", ALL_TEXT.replace('"generation": 1,', '"generation": 1,\n  "generation": 1,'))

    # A right check over a wrapped key that is not in its place: its own binding must refuse it.
    misplaced("wrapped-of-another-key", lambda d: move(d, 3))
    misplaced("wrapped-of-another-version", lambda d: put(d["keys"][0]["versions"][1], "wrapped", first(d)["wrapped"]))
    misplaced("wrapped-for-another-cipher", lambda d: put(first(d), "cipher", "aes-256-cbc"))
    # In format 2 the secret is bound to the id, too: nothing opens.
    whole = "key-corrupt" if FORMAT == 1 else "corrupt"
    misplaced("wrapped-under-another-id", lambda d: put(d, "id", d["id"][:-1] + "0"), whole)
    misplaced("renamed-key", lambda d: put(d["keys"][4], "name", 6))
    misplaced("renumbered-version", lambda d: put(first(d), "version", 7))
    misplaced("nonce-flipped", flip_wrapped(0))
    misplaced("wrapped-flipped", flip_wrapped(20))
    misplaced("tag-flipped", flip_wrapped(-1))
    misplaced("check-value-edited", lambda d: put(first(d), "check", "0" * 32))


def second_format():
    """What is wrong in what came with format 2."""
    newer = ALL_TEXT.replace('"version": 2,', '"version": 3,\n  "compression": "none",', 1)
    write("newer-version.unsupported", newer)
    edit("as-version-1", lambda d: put(d, "version", 1), both=True)
    edit("epoch-edited", lambda d: put(d, "epoch", 3), both=True)
    edit("epoch-missing", lambda d: d.pop("epoch"), both=True)
    edit("secret-missing", lambda d: d.pop("secret"), both=True)
    edit("registers-missing", lambda d: d.pop("registers"), both=True)
    edit("secret-by-a-retired-store-key", lambda d: put(d["secret"], "store_key", 1), both=True)
    edit("secret-of-another-keystore", lambda d: put(d, "secret", KEYS["secret"]), both=True)
    edit("unknown-register", lambda d: put(d["registers"], "comment", "hello"), both=True)
    edit("no-epoch", lambda d: put(d["registers"], "epochs", []), both=True)
    edit("epochs-key-edited", lambda d: put(d["registers"]["epochs"][1], "public_key", "07" * 32), both=True)
    edit("epochs-signature-edited", lambda d: put(d["registers"]["epochs"][1], "signature", "07" * 64), both=True)
    edit("epochs-signature-missing", lambda d: d["registers"]["epochs"][1].pop("signature"), both=True)
    edit("former-epochs-key-edited", lambda d: put(d["registers"]["epochs"][0], "public_key", "07" * 32), both=True)
    edit("epochs-out-of-order", lambda d: put(d["registers"]["epochs"][0], "number", 7), both=True)
    edit("data-directory-removed", lambda d: d["registers"]["data_directories"].pop())
    edit("data-directory-twice", lambda d: d["registers"]["data_directories"].append(copy.deepcopy(d["registers"]["data_directories"][0])), both=True)
    edit("path-of-two-lines", lambda d: put(d["registers"]["data_directories"][0], "path", "/a\n/b"), both=True)
    edit("approver-replaced", lambda d: put(d["registers"]["approvers"]["keys"], 0, "ssh-ed25519 AAAA other"))
    edit("more-approvals-than-approvers", lambda d: put(d["registers"]["approvers"], "needed", 2), both=True)
    edit("floor-edited", lambda d: put(d["keys"][0], "next_from", 7))
    edit("floor-0", lambda d: put(d["keys"][0], "next_from", 0), both=True)
    edit("floor-removed", lambda d: d["keys"][0].pop("next_from"))
    edit("living-without-check", lambda d: first(d).pop("check"), both=True)


def lines_behind():
    """What is wrong in the lines behind a document."""
    text = (HERE / "v2-lines.opens.json").read_text()
    end = text.index("\n}\n") + 3
    document, lines = json.loads(text[:end]), [json.loads(line) for line in text[end:].splitlines()]
    assert check(document) == document["mac"] and len(lines) == 4
    for line, former in zip(lines, [document] + lines):
        assert check_line(line, former["mac"], document) == line["mac"], line["generation"]

    def put_lines(name, lines, outcome="corrupt", signed=False):
        mac = document["mac"]
        for line in lines if signed else []:
            mac = line["mac"] = check_line(line, mac, document)
        texts = [json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines]
        name = "signed-" + name if signed else name
        write(f"line-{name}.{outcome}", text[:end] + "".join(texts))

    def edited(name, at, change, signed=True):
        some = copy.deepcopy(lines)
        change(some[at])
        put_lines(name, some, signed=signed)

    removing = {"generation": 6, "wraps": lines[3]["wraps"], "registers": lines[3]["registers"], "removed": [5], "keys": [], "changed": []}
    put_lines("none", [], "opens")
    put_lines("removing", copy.deepcopy(lines) + [removing], "opens", signed=True)
    write("line-cut-off.opens", text[:-40])
    write("line-barely-begun.opens", text[:end] + '{"gen')
    write("line-of-zeros.opens", text + "\0" * 700)
    write("line-cut-off-before-another.corrupt", text[: end + 200] + "\n" + text[end:])
    put_lines("missing", lines[:1] + lines[2:])
    put_lines("missing", copy.deepcopy(lines[:1] + lines[2:]), signed=True)
    put_lines("twice", lines[:2] + lines[1:])
    put_lines("swapped", [lines[1], lines[0]] + lines[2:])
    put_lines("one-more", lines + [{"comment": "hello"}])
    edited("wraps-edited", 0, lambda line: put(line, "wraps", line["wraps"] + 1), signed=False)
    edited("wraps-fewer", 0, lambda line: put(line, "wraps", 1))
    edited("of-another-epoch", 3, lambda line: put(line["registers"]["epochs"][0], "number", 2))
    edited("registers-missing", 2, lambda line: line.pop("registers"))
    edited("unknown-member", 2, lambda line: put(line, "comment", "hello"))
    edited("key-edited", 0, lambda line: put(line["changed"][0]["versions"][0], "cipher", "aes-256-cbc"), signed=False)
    edited("removes-what-is-not-there", 3, lambda line: line["removed"].append(4711))
    edited("changes-what-is-not-there", 0, lambda line: put(line["changed"][0], "name", 4711))
    edited("key-without-version", 0, lambda line: put(line["changed"][0], "versions", []))
    edited("wrapped-by-another-store-key", 0, lambda line: put(line["changed"][0]["versions"][1]["wrapped"], "store_key", 2))


for FORMAT in (1, 2):
    ALL_TEXT, ALL = read("all")
    KEYS = read("keys")[1]
    SECRET = secret(ALL) if FORMAT == 2 else None
    both_formats()
    if FORMAT == 2:
        second_format()
        lines_behind()
