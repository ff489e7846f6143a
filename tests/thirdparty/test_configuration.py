"""The JSON schema of the configuration, read by another implementation."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
WEIR = Path(os.environ.get("WEIR_BIN", ROOT / "target/debug/weir")).resolve()
EXAMPLE = re.compile(r"^```toml\n(.*?)^```", re.M | re.S)


def printed(*arguments):
    return subprocess.run([WEIR, *arguments], check=True, capture_output=True, text=True).stdout


def examples():
    """The configurations of the pages, each with its place."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for number, text in enumerate(EXAMPLE.findall(page.read_text())):
            if "[dependencies]" not in text:
                yield pytest.param(text, id=f"{page.name}-{number}")


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(printed("default-config", "--schema"))
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def fits(validator, text):
    return validator.is_valid(tomllib.loads(text))


def test_it_accepts_the_shipped_file_and_all_that_is_in_its_comments(validator):
    text = (ROOT / "systemd/weir.toml").read_text()
    assert printed("default-config") == text
    assert fits(validator, text)
    # Keys without a default stand behind a "# ", and so do the headers of their sections.
    every = re.sub(r"^# (\[.+\]|\w+ = .+)$", r"\1", text, flags=re.M)
    assert "acme" in tomllib.loads(every)["tls"] and "topics" in tomllib.loads(every)
    assert fits(validator, every)


@pytest.mark.parametrize("text", list(examples()))
def test_it_accepts_the_examples_of_the_pages_and_so_does_the_daemon(validator, tmp_path, text):
    assert fits(validator, text)
    file = tmp_path / "weir.toml"
    file.write_text(text)
    subprocess.run([WEIR, "check-config", file], check=True)


@pytest.mark.parametrize(
    "text",
    [
        "cash = 1",
        "[cache]\nbyts = 1",
        "[tls.acme]\ndomain = 'a.example'",
        "[[topics]]\nfilter = 'a'\nkept = 1",
        "[[topics]]\nkeep = 1",
        "listen = 5",
        "drain = 5",
        "drain = '10 apples'",
        "[cache]\nbytes = true",
        "[cache]\nbytes = '12 apples'",
        "[http]\norigins = 'a'",
        "[http]\nlisten = '8080'",
        "[limits]\ntopics = -1",
        "[limits]\ntopics = 1.5",
        "[limits]\nexempt = ['everybody']",
        "[journal]\nsync = '2s'",
        "[log]\nformat = 'xml'",
        "[[topics]]\nfilter = 'a'\nkeep = 'some'",
        "[[topics]]\nfilter = 'a'\npublic = true",
        "[tls.acme]\ndomains = ['a.example']\ndirectory = 'http://a.example'",
    ],
)
def test_it_refuses_unknown_keys_and_wrong_types_as_the_daemon_does(validator, tmp_path, text):
    assert not fits(validator, text)
    file = tmp_path / "weir.toml"
    file.write_text(text)
    done = subprocess.run([WEIR, "check-config", file], capture_output=True, text=True)
    assert done.returncode == 78
    assert re.match(rf"weir: {re.escape(str(file))}:[0-9]+:[0-9]+: ", done.stderr), done.stderr


def test_it_has_every_key_of_the_daemon_and_describes_each(validator):
    def keys(schema, prefix=""):
        for name, value in schema["properties"].items():
            assert value.get("description"), prefix + name
            refs = [value, *value.get("allOf", []), *value.get("anyOf", []), value.get("items", {})]
            inner = [ref["$ref"] for ref in refs if isinstance(ref, dict) and "$ref" in ref]
            inner = [validator.schema["definitions"][ref.rsplit("/", 1)[1]] for ref in inner]
            inner = [schema for schema in inner if "properties" in schema]
            yield from keys(inner[0], f"{prefix}{name}.") if inner else [prefix + name]

    found = set(keys(validator.schema))
    text = (ROOT / "systemd/weir.toml").read_text()
    section, shown = "", set()
    for line in text.splitlines():
        if header := re.match(r"^(?:# )?\[+([\w.]+)\]+$", line):
            section = header[1] + "."
        elif key := re.match(r"^(?:# )?(\w+) = .+$", line):
            shown.add(section + key[1])
    assert found == shown
