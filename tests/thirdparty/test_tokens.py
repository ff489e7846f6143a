"""Tokens between `weir token` and a JWT library of another language, both ways, and the same refusals."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from conftest import ROOT

BINARY = Path(os.environ.get("WEIR_BIN", ROOT / "target/debug/weir")).resolve()
ALGORITHMS = ["EdDSA", "ES256", "HS256"]
GRANTS = {"publish": ["demo/chat"], "subscribe": ["demo/**"], "limits": {"sessions": 2}}


def weir(*arguments, code=0, text=None):
    done = subprocess.run([BINARY, "token", *arguments], input=text, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout


def check(token, keys, *more, code=0):
    return json.loads(weir("check", "-", "--keys", keys, "--json", *more, code=code, text=token))


def their_key(algorithm):
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def claims(**more):
    return {"sub": "ada", "exp": int(time.time()) + 600, "weir": GRANTS, **more}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_they_verify_ours(tmp_path, algorithm):
    key = tmp_path / "key.jwk"
    public = weir("keygen", "--alg", algorithm, "--out", key, "--kid", "first") or key.read_text()
    grants = ["--publish", "demo/chat", "--subscribe", "demo/**", "--limit", "sessions=2"]
    token = weir("new", "--key", key, "--sub", "ada", "--aud", "relay", "--iss", "https://id", *grants).strip()
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "JWT", "kid": "first"}
    found = json.loads(public)
    [jwk] = jwt.PyJWKSet.from_dict(found if "keys" in found else {"keys": [found]}).keys
    assert jwk.key_id == "first"
    required = {"require": ["exp", "iat", "aud", "iss", "sub"]}
    found = jwt.decode(token, jwk.key, algorithms=[algorithm], audience="relay", issuer="https://id", options=required)
    assert (found["sub"], found["weir"]) == ("ada", GRANTS)
    assert found["exp"] - found["iat"] == 3600
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token[:-8] + "AAAAAAAA", jwk.key, algorithms=[algorithm], audience="relay")


@pytest.mark.parametrize("form", ["pem", "jwk"])
@pytest.mark.parametrize("algorithm", ALGORITHMS[:2])
def test_we_verify_theirs(tmp_path, algorithm, form):
    key = their_key(algorithm)
    keys = tmp_path / "keys"
    if form == "pem":
        encoding = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        keys.write_bytes(key.public_key().public_bytes(*encoding))
    else:
        to_jwk = jwt.get_algorithm_by_name(algorithm).to_jwk
        jwk = to_jwk(key.public_key(), as_dict=True)
        keys.write_text(json.dumps({"keys": [{**jwk, "kid": "theirs"}]}))
    token = jwt.encode(claims(aud=["other", "relay"]), key, algorithm=algorithm, headers={"kid": "theirs"})
    found = check(token, keys, "--aud", "relay")
    assert (found["sub"], found["publish"], found["subscribe"]) == ("ada", ["demo/chat"], ["demo/**"])
    assert found["limits"]["sessions"] == 2
    assert "aud" in check(token, keys, "--aud", "else", code=1)["reason"]
    other = jwt.encode(claims(), their_key(algorithm), algorithm=algorithm)
    assert "signature" in check(other, keys, code=1)["reason"]


def test_we_verify_their_secret(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(os.urandom(32))
    token = jwt.encode(claims(), secret.read_bytes(), algorithm="HS256")
    found = json.loads(weir("check", "-", "--secret", secret, "--json", text=token))
    assert found["sub"] == "ada"


@pytest.mark.parametrize("algorithm", ALGORITHMS[:2])
def test_we_sign_with_their_key(tmp_path, algorithm):
    key = their_key(algorithm)
    file = tmp_path / "key.pem"
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(*encoding))
    token = weir("new", "--key", file, "--sub", "ada").strip()
    assert jwt.decode(token, key.public_key(), algorithms=[algorithm])["sub"] == "ada"


@pytest.mark.parametrize("algorithm", ALGORITHMS[:2])
def test_both_refuse_the_same(tmp_path, algorithm):
    key = their_key(algorithm)
    keys = tmp_path / "keys"
    encoding = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    keys.write_bytes(key.public_key().public_bytes(*encoding))
    now = int(time.time())
    refused = {
        "expired": claims(exp=now - 3600),
        "early": claims(nbf=now + 3600),
        "of the future": claims(iat=now + 3600),
        "for others": claims(aud="other"),
        "a text for a time": claims(exp="soon"),
    }
    tokens = {what: jwt.encode(payload, key, algorithm=algorithm) for what, payload in refused.items()}
    tokens["unsigned"] = jwt.encode(claims(), None, algorithm="none")
    tokens["critical"] = jwt.encode(claims(), key, algorithm=algorithm, headers={"crit": ["exp"]})
    good = jwt.encode(claims(), key, algorithm=algorithm)
    tokens["padded"] = good + "="
    tokens["without its signature"] = good[: good.rindex(".") + 1]
    for what, token in tokens.items():
        assert check(token, keys, code=1)["reason"], what
        with pytest.raises(jwt.InvalidTokenError):
            jwt.decode(token, key.public_key(), algorithms=[algorithm])
    assert check(good, keys)["sub"] == "ada"


def test_the_example_of_the_page(tmp_path):
    page = (ROOT / "docs/access.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    [example] = [example for example in examples if "import jwt" in example]
    keys = tmp_path / "keys.json"
    weir("keygen", "--out", tmp_path / "key.jwk", "--public", keys)
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = check(done.stdout, keys)
    assert (found["sub"], found["publish"], found["subscribe"]) == ("ada", ["demo/chat"], ["demo/**"])
