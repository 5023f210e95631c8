"""Bodies that come compressed, whole, in pieces, damaged and as bombs; and who wants gzip back."""

import asyncio
import gzip
import random
import zlib

import pytest

from pipelines.serving import encodings
from pipelines.serving.encodings import Decoder, accepts_gzip
from pipelines.serving.payload import RequestError

TEXT = random.Random(3).randbytes(70_001) + b"a" * 200_003


def raw(data):
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


def decode(coding, *parts):
    """Returns the pieces that the parts of a body are decoded to."""

    async def decoded():
        decoder = Decoder([coding])
        pieces = [piece for part in parts async for piece in decoder.decode(part)]
        decoder.end()
        return pieces

    return asyncio.run(decoded())


class DecoderTest:
    @pytest.mark.parametrize("size", [13, 4099, 10**6])
    @pytest.mark.parametrize(
        ("coding", "encode"),
        [
            ("gzip", gzip.compress),
            ("X-GZip", lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:])),
            ("deflate", zlib.compress),
            ("deflate", raw),
            ("identity", bytes),
        ],
    )
    def test_a_body_comes_back_however_it_is_cut(self, coding, encode, size):
        data = encode(TEXT)
        parts = [data[i : i + size] for i in range(0, len(data), size)]
        assert b"".join(decode(coding, *parts)) == TEXT

    def test_no_piece_is_larger_than_its_bound(self):
        pieces = decode("gzip", gzip.compress(bytes(5 * encodings.PIECE)))
        assert len(pieces[0]) == encodings.SOON
        assert max(map(len, pieces)) == encodings.PIECE

    @pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "gzip, br", "gzip;q=1", "*"])
    def test_other_encodings_are_refused_by_their_name(self, coding):
        with pytest.raises(RequestError, match="received ") as caught:
            Decoder(coding.split(", "))
        assert caught.value.status == 415 and coding in str(caught.value)

    @pytest.mark.parametrize(
        ("coding", "data", "message"),
        [
            ("gzip", b"", "ends before its gzip"),
            ("gzip", gzip.compress(TEXT)[:-1], "ends before its gzip"),
            ("deflate", zlib.compress(TEXT)[:-5], "ends before its deflate"),
            ("gzip", b'{"instances": []}', "not gzip data"),
            ("deflate", b'{"instances": []}', "not deflate data"),
            ("gzip", zlib.compress(b"a"), "not gzip data"),
            ("gzip", gzip.compress(b"a")[:-8] + bytes(8), "not gzip data"),
            ("gzip", gzip.compress(b"a") + b"rubbish", "not gzip data"),
            ("deflate", zlib.compress(b"a") + b"x", "more behind its deflate"),
            ("gzip", gzip.compress(b"") * (encodings.MAX_MEMBERS + 1), "more behind its gzip"),
        ],
    )
    def test_what_is_damaged_is_refused(self, coding, data, message):
        with pytest.raises(RequestError, match=message) as caught:
            decode(coding, data)
        assert caught.value.status == 400


class AcceptTest:
    @pytest.mark.parametrize(
        ("values", "accepted"),
        [
            ([], False),
            ([""], False),
            (["identity"], False),
            (["br, zstd"], False),
            (["gzip"], True),
            (["GZIP ; Q=0.5"], True),
            (["x-gzip"], True),
            (["*"], True),
            (["deflate", "gzip"], True),
            (["gzip;q=0"], False),
            (["gzip;q=0.000, *"], False),
            (["*;q=0, gzip"], True),
            (["identity, gzip;q=0.5"], False),
            (["gzip;q=x"], False),
        ],
    )
    def test_weights_are_read(self, values, accepted):
        assert accepts_gzip(values) == accepted
