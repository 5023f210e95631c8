"""Tests of labelled images from `.npz` files, through `read_images`."""

import numpy as np
import pytest

from pipelines.images.labelled import read_images
from tests.images.samples import LABELS, PIXELS, config


class NpzTest:
    def write(self, folder, name="a.npz", **arrays):
        np.savez(folder / name, **{"images": PIXELS, "labels": LABELS, **arrays})

    def test_images_are_read_as_they_are(self, tmp_path):
        self.write(tmp_path, class_names=np.array(["ant", "bee", "cat"]))
        images = read_images(config("npz", tmp_path, train="a.npz"), "train")
        np.testing.assert_array_equal(images.pixels, PIXELS)
        np.testing.assert_array_equal(images.labels, LABELS)
        assert images.labels.dtype == np.int32
        assert images.class_names == ("ant", "bee", "cat") and images.channels == 3

    @pytest.mark.parametrize("shape", [(31, 11, 13), (31, 11, 13, 1)])
    def test_gray_images_may_have_no_channel(self, tmp_path, shape):
        self.write(tmp_path, images=PIXELS[..., 0].reshape(shape))
        images = read_images(config("npz", tmp_path, train="a.npz"), "train")
        np.testing.assert_array_equal(images.pixels, PIXELS[..., :1])
        assert images.channels == 1

    def test_the_classes_are_those_of_the_training_split(self, tmp_path):
        self.write(tmp_path)
        self.write(tmp_path, "b.npz", labels=np.zeros(31, np.uint8))
        data = config("npz", tmp_path, train="a.npz", test="b.npz")
        assert read_images(data, "test").class_names == ("0", "1", "2")
        with pytest.raises(ValueError, match="labels from 0 to 0.*labels from 0 to 2"):
            read_images(config("npz", tmp_path, train="b.npz", test="a.npz"), "test")

    def test_a_file_can_be_cut_class_by_class(self, tmp_path):
        self.write(tmp_path, labels=np.array([0] * 20 + [1] * 11))
        keys = {"train": "a.npz[:90%]", "validation": "a.npz[90%:95%]", "test": "a.npz[95%:]"}
        data = config("npz", tmp_path, **keys)
        splits = [read_images(data, split) for split in keys]
        assert [np.bincount(images.labels).tolist() for images in splits] == [
            [18, 9],
            [1, 1],
            [1, 1],
        ]
        rows = sorted(row.tobytes() for images in splits for row in images.pixels)
        assert rows == sorted(row.tobytes() for row in PIXELS)
        np.testing.assert_array_equal(splits[1].pixels, PIXELS[[18, 29]])

    @pytest.mark.parametrize(
        "value",
        ["a.npz[:90]", "a.npz[90%:50%]", "a.npz[:101%]", "a.npz[50%:50%]", "[:5%]", "a\nb.npz"],
    )
    def test_a_part_that_is_none_is_refused(self, tmp_path, value):
        self.write(tmp_path)
        with pytest.raises(ValueError, match=r"data.train to be a name"):
            read_images(config("npz", tmp_path, train=value), "train")

    @pytest.mark.parametrize(
        "arrays, words",
        [
            ({"images": PIXELS / 255}, "images of uint8.*received float64"),
            ({"labels": LABELS + 9_999_997}, "count the classes from 0.*31 labels up to 9999999"),
            ({"labels": LABELS * 0}, "at least two classes, received '0' alone"),
            ({"class_names": ["cat", "dog", "cat"]}, "each class name once, received 'cat' more"),
            ({"images": PIXELS[..., :2]}, r"received uint8 \(31, 11, 13, 2\)"),
            ({"images": PIXELS[0, 0]}, r"received uint8 \(13, 3\)"),
            ({"labels": LABELS[:30]}, r"31 whole numbers as labels.*\(30,\)"),
            ({"labels": LABELS / 2}, "whole numbers.*float64"),
            ({"labels": LABELS - 1}, "labels from 0 to 1.*labels from -1 to 1"),
            ({"images": PIXELS[:0], "labels": LABELS[:0]}, "split='train', received none"),
            ({"labels": np.array([{}] * 31)}, "plain arrays"),
        ],
    )
    def test_arrays_of_another_kind_are_named(self, tmp_path, arrays, words):
        self.write(tmp_path, **arrays)
        with pytest.raises(ValueError, match=words):
            read_images(config("npz", tmp_path, train="a.npz"), "train")

    def test_missing_arrays_are_named(self, tmp_path):
        np.savez(tmp_path / "a.npz", images=PIXELS, y=LABELS)
        with pytest.raises(ValueError, match=r"a\.npz, received \['images', 'y'\]"):
            read_images(config("npz", tmp_path, train="a.npz"), "train")

    @pytest.mark.parametrize("contents", [b"", b"text", b"PK\3\4 broken", "folder", None])
    def test_what_is_no_npz_is_named(self, tmp_path, contents):
        if contents == "folder":
            (tmp_path / "a.npz").mkdir()
        elif contents is not None:
            (tmp_path / "a.npz").write_bytes(contents)
        with pytest.raises(ValueError, match=r"Cannot read .*a\.npz"):
            read_images(config("npz", tmp_path, train="a.npz"), "train")

    def test_one_array_alone_is_no_npz(self, tmp_path):
        np.save(tmp_path / "a.npy", PIXELS)
        with pytest.raises(ValueError, match=r"Cannot read .*a\.npy"):
            read_images(config("npz", tmp_path, train="a.npy"), "train")
