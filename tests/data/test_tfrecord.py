"""TFRecords and tf.Examples: checksums, framing, the wire format, and what is wrong with a file."""

import numpy as np
import pytest
import youtube8m_shards as shards

from jaxvid.core.errors import DataError
from jaxvid.data import tf_example, tfrecord
from jaxvid.data.crc32c import crc32c, masked_crc32c


@pytest.mark.parametrize(
    "text, expected",
    [
        (b"", 0),
        (b"a", 0xC1D04330),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, appendix B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_known_checksums(text, expected):
    assert crc32c(text) == expected
    assert crc32c(memoryview(text)) == expected


@pytest.mark.parametrize("size", [1, 3, 4, 5, 63, 64, 65, 127, 128, 129, 1000, 4097])
def test_checksums_of_all_lengths(size):
    text = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8).tobytes()
    assert crc32c(text) == shards.slow_crc32c(text)
    assert masked_crc32c(text) == int.from_bytes(shards.masked(text), "little")


def test_records_are_scanned_and_read_where_they_begin(tmp_path):
    wanted = [b"first", b"", bytes(range(256)) * 9]
    path = shards.write(tmp_path / "a.tfrecord", wanted)
    found = [(place, bytes(record)) for place, record in tfrecord.scan(path)]
    assert [record for _, record in found] == wanted
    assert [tfrecord.read(path, place) for place, _ in found] == wanted
    (tmp_path / "empty.tfrecord").touch()
    assert list(tfrecord.scan(tmp_path / "empty.tfrecord")) == []


def damaged(path, place, byte=0xFF):
    data = bytearray(path.read_bytes())
    data[place] ^= byte
    path.write_bytes(data)
    return path


def test_what_is_wrong_with_a_file(tmp_path):
    path = shards.write(tmp_path / "a.tfrecord", [b"first", b"second"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(DataError, match="a.tfrecord: the file ends within the record at byte 21"):
        list(tfrecord.scan(path))
    path.write_bytes(whole[:25])
    with pytest.raises(DataError, match="no record begins at byte 21"):
        list(tfrecord.scan(path))
    path.write_bytes(b"\x1f\x8b" + whole)
    with pytest.raises(DataError, match=r"byte 0: it is no TFRecord file \(compressed ones"):
        list(tfrecord.scan(path))
    path.write_bytes(whole)
    damaged(path, 14)
    with pytest.raises(DataError, match="the record at byte 0 is damaged, its checksum is another"):
        tfrecord.read(path, 0)
    assert tfrecord.read(path, 21) == b"second"
    path.write_bytes(whole[:-5])
    with pytest.raises(DataError, match="the record at byte 21 is damaged"):
        tfrecord.read(path, 21)
    for function in (lambda p: list(tfrecord.scan(p)), lambda p: tfrecord.read(p, 0)):
        with pytest.raises(DataError, match="gone: the TFRecord file cannot be read: No such file"):
            function(tmp_path / "gone")


@pytest.mark.parametrize("packed", [True, False])
def test_values_of_an_example(packed):
    values = {"i": [0, 1, 300, -5, 2**40], "f": [0.5, -2.0, 1e-8], "b": [b"", b"ab\xff"], "é": [7]}
    context, sequences = tf_example.parse(shards.example(values, packed=packed))
    assert sequences == {} and list(context) == ["i", "f", "b", "é"]
    assert tf_example.int64s(context["i"]).tolist() == values["i"]
    floats = tf_example.floats(context["f"])
    assert floats.dtype == np.float32 and floats.tolist() == np.float32(values["f"]).tolist()
    assert tf_example.byte_strings(context["b"]) == values["b"]
    assert tf_example.int64s(memoryview(b"")).tolist() == []


def test_values_of_a_sequence():
    record = shards.example({"id": [b"x"]}, {"s": [[1, 2], [3]], "t": [[b"a"]]})
    context, sequences = tf_example.parse(record)
    assert tf_example.byte_strings(context["id"]) == [b"x"]
    steps = [tf_example.int64s(f).tolist() for f in tf_example.features(sequences["s"])]
    assert steps == [[1, 2], [3]] and list(sequences) == ["s", "t"]


def messages():
    """(Example, SequenceExample) as TensorFlow's example.proto and feature.proto have them."""
    why = "the reference: pip install protobuf"
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2", reason=why)
    descriptor_pool = pytest.importorskip("google.protobuf.descriptor_pool", reason=why)
    message_factory = pytest.importorskip("google.protobuf.message_factory", reason=why)

    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    kind = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields, inside=file.message_type):
        made = inside.add(name=name)
        for number, (field, what, repeated) in enumerate(fields, 1):
            entry = made.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(what, str):
                entry.type, entry.type_name = kind.TYPE_MESSAGE, what
            else:
                entry.type = what
        return made

    def mapped(name, field, what):
        made = message(name, (field, f".t.{name}.Entry", True))
        entry = message(
            "Entry",
            ("key", kind.TYPE_STRING, False),
            ("value", what, False),
            inside=made.nested_type,
        )
        entry.options.map_entry = True

    message("BytesList", ("value", kind.TYPE_BYTES, True))
    message("FloatList", ("value", kind.TYPE_FLOAT, True))
    message("Int64List", ("value", kind.TYPE_INT64, True))
    lists = [(f"{n}_list", f".t.{n.title()}List", False) for n in ("bytes", "float", "int64")]
    message("Feature", *lists)
    mapped("Features", "feature", ".t.Feature")
    message("FeatureList", ("feature", ".t.Feature", True))
    mapped("FeatureLists", "feature_list", ".t.FeatureList")
    message("Example", ("features", ".t.Features", False))
    fields = ("context", ".t.Features", False), ("feature_lists", ".t.FeatureLists", False)
    message("SequenceExample", *fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = pool.FindMessageTypeByName
    names = ("t.Example", "t.SequenceExample")
    return [message_factory.GetMessageClass(find(name)) for name in names]


def test_as_protocol_buffers_write_them():
    example, sequence = (kind() for kind in messages())
    example.features.feature["f"].float_list.value.extend([0.5, -3.0])
    example.features.feature["i"].int64_list.value.extend([-7, 3861, 2**62])
    example.features.feature["b"].bytes_list.value.extend([b"x", b""])
    context, none = tf_example.parse(example.SerializeToString())
    assert none == {} and tf_example.floats(context["f"]).tolist() == [0.5, -3.0]
    assert tf_example.int64s(context["i"]).tolist() == [-7, 3861, 2**62]
    assert tf_example.byte_strings(context["b"]) == [b"x", b""]
    sequence.context.feature["id"].bytes_list.value.append(b"y")
    for step in (b"12", b"34"):
        feature = sequence.feature_lists.feature_list["rgb"].feature.add()
        feature.bytes_list.value.append(step)
    context, sequences = tf_example.parse(sequence.SerializeToString())
    assert tf_example.byte_strings(context["id"]) == [b"y"]
    steps = tf_example.features(sequences["rgb"])
    assert [tf_example.byte_strings(f) for f in steps] == [[b"12"], [b"34"]]
    # and the shards these tests write are what protocol buffers read
    theirs = messages()[1].FromString(shards.frame_level("n", [5], frames=2)[0])
    assert list(theirs.context.feature["labels"].int64_list.value) == [5]
    assert len(theirs.feature_lists.feature_list["rgb"].feature) == 2


@pytest.mark.parametrize(
    "record, says",
    [
        (b"\x0a\x7fab", "a field of 127 bytes has 2"),
        (b"\x0b", "wire type 3 is not one of protocol buffers'"),
        (b"\x80", "an integer has no end"),
        (b"\x80" * 20, "an integer has no end"),
        (b"\x08\x01", "an integer stands where a message is expected"),
    ],
)
def test_bytes_that_are_no_example(record, says):
    with pytest.raises(ValueError, match=says):
        tf_example.parse(record)


def test_values_of_another_kind():
    context, _ = tf_example.parse(shards.example({"i": [1]}))
    with pytest.raises(ValueError, match="it holds integers, not floats"):
        tf_example.floats(context["i"])
