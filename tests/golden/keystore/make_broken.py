#!/usr/bin/env python3
"""Makes the golden keystore files that must not open, from those that do.

A second implementation of the file's check (docs/keystore-format.md), so that a broken rule can be
told from a broken check: files named "signed" have a right check over a wrong content.
Run it after a new format version; it never overwrites a file.
"""
import base64, copy, hashlib, hmac, json, pathlib, struct

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


def check(document):
    """HMAC-SHA-256 over the compact JSON without `mac`, under an HKDF of the store key."""
    key = store_key(document["store_keys"][-1]["number"])
    extracted = hmac.new(document["id"].encode(), key, hashlib.sha256).digest()
    derived = hmac.new(extracted, b"keyward keystore mac v1\x01", hashlib.sha256).digest()
    body = {name: value for name, value in document.items() if name != "mac"}
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return hmac.new(derived, text.encode(), hashlib.sha256).hexdigest()


def write(name, document, signed=False):
    if signed:
        document["mac"] = check(document)
        name = "signed-" + name
    text = document if isinstance(document, str) else json.dumps(document, indent=1, ensure_ascii=False)
    path = HERE / f"v1-{name}.json"
    if not path.exists():
        path.write_text(text)


ALL_TEXT = (HERE / "v1-all.opens.json").read_text()
ALL, KEYS = (json.loads((HERE / f"v1-{name}.opens.json").read_text()) for name in ("all", "keys"))
assert check(ALL) == ALL["mac"] and check(KEYS) == KEYS["mac"]

write("laid-out-anew.opens", copy.deepcopy(ALL))


def edit(name, change, both=False):
    """A file edited by `change`: with the old check, and with a right one if `both`."""
    for signed in (False, True) if both else (False,):
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
newer = ALL_TEXT.replace('"version": 1,', '"version": 2,\n  "compression": "none",', 1)
write("newer-version.unsupported", newer)

# A right check over a wrapped key that is not in its place: its own binding must refuse it.
def misplaced(name, change):
    document = copy.deepcopy(ALL)
    change(document)
    write(f"{name}.key-corrupt", document, signed=True)


def move(document, to):
    first(document, to)["wrapped"] = copy.deepcopy(first(document)["wrapped"])


def flip_wrapped(at):
    def change(document):
        data = bytearray(base64.b64decode(first(document)["wrapped"]["data"]))
        data[at] ^= 1
        first(document)["wrapped"]["data"] = base64.b64encode(data).decode()
    return change


misplaced("wrapped-of-another-key", lambda d: move(d, 3))
misplaced("wrapped-of-another-version", lambda d: put(d["keys"][0]["versions"][1], "wrapped", first(d)["wrapped"]))
misplaced("wrapped-for-another-cipher", lambda d: put(first(d), "cipher", "aes-256-cbc"))
misplaced("wrapped-under-another-id", lambda d: put(d, "id", d["id"][:-1] + "0"))
misplaced("renamed-key", lambda d: put(d["keys"][4], "name", 6))
misplaced("renumbered-version", lambda d: put(first(d), "version", 7))
misplaced("nonce-flipped", flip_wrapped(0))
misplaced("wrapped-flipped", flip_wrapped(20))
misplaced("tag-flipped", flip_wrapped(-1))
misplaced("check-value-edited", lambda d: put(first(d), "check", "0" * 32))
