"""The codec against the vectors in tests/vectors: byte for byte, both ways."""

import json
from pathlib import Path

import pytest

import codec
import names

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
FRAMES = json.loads((VECTORS / "frames.json").read_text(encoding="utf-8"))
INVALID = json.loads((VECTORS / "invalid.json").read_text(encoding="utf-8"))
NAMES = json.loads((VECTORS / "names.json").read_text(encoding="utf-8"))


def by_name(vectors):
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: vector["name"])


def frame_of(vector):
    return codec.FRAMES[vector["to"]].from_json({vector["frame"]: vector["fields"]})


@by_name(FRAMES)
def test_a_vector_encodes_to_its_bytes(vector):
    assert codec.encode(frame_of(vector), vector["to"]).hex() == vector["hex"]


@by_name(FRAMES)
def test_a_vector_decodes_to_its_fields(vector):
    data = bytes.fromhex(vector["hex"])
    reader = codec.FrameReader(vector["to"])
    assert list(reader.feed(data)) == [frame_of(vector)]
    reader.finish()


@by_name(FRAMES)
def test_a_vector_that_comes_byte_by_byte(vector):
    reader = codec.FrameReader(vector["to"])
    frames = [frame for byte in bytes.fromhex(vector["hex"]) for frame in reader.feed(bytes([byte]))]
    assert frames == [frame_of(vector)]


@pytest.mark.parametrize("to", ["daemon", "client"])
def test_all_vectors_of_a_direction_on_one_stream(to):
    vectors = [vector for vector in FRAMES if vector["to"] == to]
    reader = codec.FrameReader(to)
    frames = list(reader.feed(bytes.fromhex("".join(vector["hex"] for vector in vectors))))
    reader.finish()
    assert frames == [frame_of(vector) for vector in vectors]


@pytest.mark.parametrize("to", ["daemon", "client"])
def test_the_vectors_have_every_frame(to):
    assert {variant.kind for variant in codec.FRAMES[to].variants} == {
        vector["frame"] for vector in FRAMES if vector["to"] == to
    }


@by_name(INVALID)
def test_an_invalid_vector_is_refused(vector):
    reader = codec.FrameReader(vector["to"], limit=vector.get("limit", codec.CONTROL_LIMIT))
    data = bytes.fromhex(vector["hex"])
    if vector["kind"] == "limit":
        with pytest.raises(codec.TooLarge):
            list(reader.feed(data))
    elif vector["kind"] == "end":
        assert list(reader.feed(data)) == [], "nothing is whole yet"
        with pytest.raises(codec.Malformed):
            reader.finish()
    else:
        with pytest.raises(codec.Malformed):
            list(reader.feed(data))


def test_a_field_that_does_not_fit_is_not_encoded():
    for frame in [
        codec.Record("Ping", request=1 << 32),
        codec.Record("Ping", request=-1),
        codec.Record("Ping"),
        codec.Record("End", digest=bytes(31)),
        codec.Record("Nonesuch"),
    ]:
        with pytest.raises(ValueError):
            codec.encode(frame)


@pytest.mark.parametrize("name", NAMES["topics"]["good"])
def test_a_good_topic(name):
    assert names.topic_code(name) is None


@by_name(NAMES["topics"]["bad"])
def test_a_bad_topic(vector):
    assert names.topic_code(vector["name"]) == vector["code"]


@pytest.mark.parametrize("name", NAMES["filters"]["good"])
def test_a_good_filter(name):
    assert names.filter_code(name) is None


@by_name(NAMES["filters"]["bad"])
def test_a_bad_filter(vector):
    assert names.filter_code(vector["name"]) == vector["code"]


@pytest.mark.parametrize("vector", NAMES["matches"], ids=lambda vector: f"{vector['filter']} {vector['topic']}")
def test_a_match(vector):
    assert names.matches(vector["filter"], vector["topic"]) is vector["matches"]
