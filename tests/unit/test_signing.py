"""Signatures by real keys: what is accepted, and every way in which something is not."""

import base64
import json
import shutil
import subprocess
import sys

import pytest

from components.model.bundle import BundleError, compute_sha256
from components.model.verification import verify_bundle
from components.package.server import read_service_settings
from components.signing.bundle import (
    SIGNATURE_FILE,
    check_archive_signature,
    check_bundle_signature,
    sign_archive,
    sign_bundle,
)
from components.signing.keys import (
    SIGNING_KEY,
    VERIFY_KEYS,
    KeyConfigurationError,
    compute_fingerprint,
    read_signing_key,
    read_verify_keys,
)
from tests.factories import make_bundle
from tests.signing_keys import make_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """By name; each with its private and its public file."""
    folder = tmp_path_factory.mktemp("keys")
    names = {"ours": "P-256", "next": "P-384", "longest": "P-521", "theirs": "P-256"}
    return {name: make_keys(folder, name, curve) for name, curve in names.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def use(keys, monkeypatch):
    """Set the private key, the public keys, or both, by name."""

    def set_keys(private="", *public):
        monkeypatch.setenv(f"{SIGNING_KEY}_FILE", str(keys[private].private) if private else "")
        monkeypatch.setenv(VERIFY_KEYS, "".join(keys[one].public.read_text() for one in public))

    return set_keys


@pytest.fixture
def signed(made, tmp_path, use):
    """A bundle that is signed by `ours`, which alone is accepted."""
    folder = shutil.copytree(made, tmp_path / "bundle")
    use("ours", "ours")
    (folder / SIGNATURE_FILE).write_text(sign_bundle(folder, read_signing_key()))
    return folder


def check(folder):
    check_bundle_signature(folder, "7", read_verify_keys())
    verify_bundle(folder)


def refuses(folder, *words):
    with pytest.raises(BundleError) as refused:
        check(folder)
    text = str(refused.value)
    assert all(word in text for word in words), text
    return text


def fingerprint(key):
    """As the README has people compute it."""
    command = f"openssl pkey -pubin -in {key.public} | sha256sum"
    return subprocess.check_output(command, shell=True, text=True).split()[0]


@pytest.mark.parametrize("name", ["ours", "next", "longest"])
def test_what_a_key_signed_is_accepted_by_its_public_key(made, tmp_path, use, keys, name):
    folder = shutil.copytree(made, tmp_path / "bundle")
    use(name, name)
    (folder / SIGNATURE_FILE).write_text(sign_bundle(folder, read_signing_key()))
    check(folder)
    assert list(read_verify_keys()) == [fingerprint(keys[name])]
    assert compute_fingerprint(read_signing_key().public_key()) == fingerprint(keys[name])


def test_the_signature_is_one_that_model_signing_accepts(signed, keys):
    """And finds wanting, once any file is another: the format is the standard's, not ours."""
    check(signed)  # leaves a note beside the files
    command = [
        *(sys.executable, "-m", "model_signing", "verify", "key", str(signed)),
        *("--signature", str(signed / SIGNATURE_FILE), "--public_key", str(keys["ours"].public)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (signed / "n_orders.npy").write_bytes(b"another")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "n_orders.npy" in done.stdout + done.stderr


def test_what_model_signing_signed_is_accepted(made, tmp_path, use, keys):
    from model_signing import hashing, signing

    use("", "ours")
    folder = shutil.copytree(made, tmp_path / "bundle")
    config = signing.Config().use_elliptic_key_signer(private_key=keys["ours"].private)
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[]))
    config.sign(folder, folder / SIGNATURE_FILE)
    check(folder)


def test_a_rotated_key_is_accepted_beside_the_old_one(signed, use):
    use("next", "ours", "next")
    check(signed)
    (signed / SIGNATURE_FILE).write_text(sign_bundle(signed, read_signing_key()))
    check(signed)
    use("", "next")
    check(signed)
    use("", "ours")
    refuses(signed, "signed by key", "expected one of FBT_VERIFY_KEYS")


def test_an_older_bundle_without_a_signature(signed):
    (signed / SIGNATURE_FILE).unlink()
    refuses(signed, "bundle.json of version 7 is not signed", SIGNATURE_FILE, "fbt sign 7")


def test_a_stranger_who_signs_is_named_with_those_expected(signed, use, keys):
    use("theirs", "ours", "next")
    (signed / SIGNATURE_FILE).write_text(sign_bundle(signed, read_signing_key()))
    refuses(signed, *(fingerprint(keys[one])[:12] for one in ("theirs", "ours", "next")))


def test_a_stranger_who_signs_in_our_name(signed, use):
    hint = json.loads((signed / SIGNATURE_FILE).read_text())["verificationMaterial"]
    use("theirs", "ours")
    forged = json.loads(sign_bundle(signed, read_signing_key()))
    (signed / SIGNATURE_FILE).write_text(json.dumps({**forged, "verificationMaterial": hint}))
    refuses(signed, "the signature is not by key", "which it names")


def test_a_statement_that_was_changed_after_it_was_signed(signed):
    signature = json.loads((signed / SIGNATURE_FILE).read_text())
    envelope = signature["dsseEnvelope"]
    statement = base64.b64decode(envelope["payload"]).replace(b"n_orders", b"n_0rders")
    envelope["payload"] = base64.b64encode(statement).decode()
    (signed / SIGNATURE_FILE).write_text(json.dumps(signature))
    refuses(signed, "the signature is not by key")


@pytest.mark.parametrize(
    "change",
    [
        lambda one: "",
        lambda one: "[]",
        lambda one: one[: len(one) // 2],
        lambda one: one.replace('"hint"', '"other"'),
        lambda one: one.replace('"sig"', '"other"'),
        lambda one: json.dumps({**json.loads(one), "dsseEnvelope": None}),
        lambda one: "[" * 100_000,
        lambda one: one.replace("vnd.in-toto", "vnd.other"),
        lambda one: json.dumps(
            {
                **json.loads(one),
                "dsseEnvelope": {**json.loads(one)["dsseEnvelope"], "signatures": []},
            }
        ),
    ],
)
def test_a_signature_that_is_none(signed, change):
    text = (signed / SIGNATURE_FILE).read_text()
    (signed / SIGNATURE_FILE).write_text(change(text))
    refuses(signed, "bundle.json of version 7 is refused", "signature")


def test_bytes_that_are_no_text(signed):
    (signed / SIGNATURE_FILE).write_bytes(bytes(range(256)))
    refuses(signed, "the signature cannot be read")


def test_a_manifest_that_was_changed(signed):
    manifest = signed / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"dims"', ' "dims"'))
    refuses(signed, "bundle.json of version 7 is refused", "it has sha256", "the signature is of")


def test_a_file_that_was_changed(signed):
    (signed / "n_orders.npy").write_bytes(b"another")
    refuses(signed, "n_orders.npy is damaged")


def test_a_file_that_was_changed_with_its_hash_in_the_manifest(signed):
    """Whoever writes to the store can do so; whoever has the key alone can sign it."""
    before = compute_sha256(signed / "n_orders.npy")
    (signed / "n_orders.npy").write_bytes(b"another")
    text = (signed / "bundle.json").read_text()
    (signed / "bundle.json").write_text(
        text.replace(before, compute_sha256(signed / "n_orders.npy"))
    )
    verify_bundle(signed)
    refuses(signed, "bundle.json of version 7 is refused")


def test_a_file_that_is_missing(signed):
    (signed / "n_orders.npy").unlink()
    refuses(signed, "n_orders.npy is missing")


def test_a_file_that_nobody_signed(signed):
    (signed / "sensitive_classes.npy").write_bytes(b"more")
    refuses(signed, "version 7 has sensitive_classes.npy", "does not cover")


def test_the_signature_of_another_bundle(signed, tmp_path):
    other = make_bundle(tmp_path / "other", with_index=True)
    shutil.copy(signed / SIGNATURE_FILE, other)
    refuses(other, "bundle.json of version 7 is refused", "it has sha256")


def test_an_archive_is_signed_with_its_name(tmp_path, use):
    use("ours", "ours")
    archive = tmp_path / "fbt-7.bento"
    archive.write_bytes(b"code and bundle")
    signature = sign_archive(archive, "fbt-7.bento", read_signing_key())
    with pytest.raises(BundleError, match=r"fbt-7\.bento of version 7 is not signed"):
        check_archive_signature(archive, "fbt-7.bento", "7", read_verify_keys())
    (tmp_path / SIGNATURE_FILE).write_text(signature)
    check_archive_signature(archive, "fbt-7.bento", "7", read_verify_keys())
    with pytest.raises(BundleError, match="the signature is of another file"):
        check_archive_signature(archive, "fbt-8.bento", "8", read_verify_keys())
    archive.write_bytes(b"other code")
    with pytest.raises(BundleError, match="the signature is of sha256"):
        check_archive_signature(archive, "fbt-7.bento", "7", read_verify_keys())


def test_the_service_does_not_get_the_private_key(use):
    use("ours", "ours")
    assert f"{SIGNING_KEY}_FILE" not in read_service_settings()


def test_without_settings_nothing_is_signed_or_verified(monkeypatch):
    for name in (SIGNING_KEY, VERIFY_KEYS):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    assert read_signing_key() is None
    assert read_verify_keys() == {}


@pytest.mark.parametrize(
    ("name", "read"), [(SIGNING_KEY, read_signing_key), (VERIFY_KEYS, read_verify_keys)]
)
def test_a_setting_without_a_usable_key_is_an_error_never_no_signature(
    monkeypatch, tmp_path, keys, name, read
):
    def fails(file, words):
        monkeypatch.setenv(f"{name}_FILE", str(file))
        with pytest.raises(KeyConfigurationError, match=name) as refused:
            read()
        assert words in str(refused.value)
        return str(refused.value)

    (tmp_path / "empty").write_text("")
    (tmp_path / "text").write_text("secret words")
    (tmp_path / "bytes").write_bytes(bytes(range(128, 256)))
    fails(tmp_path / "absent", "cannot be read")
    fails(tmp_path, "cannot be read")
    fails(tmp_path / "bytes", "cannot be read")
    fails(tmp_path / "empty", "no PEM")
    assert "secret words" not in fails(tmp_path / "text", "no PEM")
    swapped = keys["ours"].public if name == SIGNING_KEY else keys["ours"].private
    assert "BEGIN" not in fails(swapped, "no PEM")
    odd = make_keys(tmp_path, "odd", "secp256k1")
    fails(odd.private if name == SIGNING_KEY else odd.public, "secp256k1")
    monkeypatch.setenv(name, "both")
    fails(keys["ours"].public, "only one of")


def test_a_key_that_a_password_locks(monkeypatch, tmp_path, keys):
    locked = tmp_path / "locked.pem"
    subprocess.run(
        [
            "openssl",
            "pkey",
            "-in",
            keys["ours"].private,
            "-aes256",
            "-passout",
            "pass:x",
            "-out",
            locked,
        ],
        check=True,
    )
    monkeypatch.setenv(f"{SIGNING_KEY}_FILE", str(locked))
    with pytest.raises(KeyConfigurationError, match="locked by a password"):
        read_signing_key()


def test_one_bad_key_among_good_ones_is_an_error(monkeypatch, tmp_path, keys):
    good = keys["ours"].public.read_text()
    monkeypatch.setenv(VERIFY_KEYS, good + good.replace("M", "!", 1))
    with pytest.raises(KeyConfigurationError, match="no PEM"):
        read_verify_keys()
