"""Tests of choosing the split of an image, by its place or by its content."""

import time

import ml_collections
import numpy as np
import pytest

from pipelines.images.labelled import read_images, read_splits
from pipelines.images.splits import split_by_content
from tests import own_pictures

CLASSES = ("ant", "bee", "cat")


def config(folder, **keys):
    return ml_collections.ConfigDict({"format": "folder", "folder": str(folder), **keys})


class SplitByContentTest:
    def test_each_class_is_shared_out_as_exactly_as_can_be(self):
        random = np.random.default_rng(3)
        digests, labels = random.integers(0, 2**40, 1009), random.integers(0, 3, 1009)
        chosen = split_by_content(digests, labels, [10, 20])
        for label in range(3):
            counts, of_class = np.bincount(chosen[labels == label]), np.sum(labels == label)
            assert counts.tolist() == [
                of_class - round(0.1 * of_class) - round(0.2 * of_class),
                round(0.1 * of_class),
                round(0.2 * of_class),
            ]
        order = random.permutation(1009)
        again = split_by_content(digests[order], labels[order], [10, 20])
        np.testing.assert_array_equal(again, chosen[order])

    def test_a_thousand_classes_take_no_longer_than_one(self):
        begin = time.process_time()
        chosen = split_by_content(np.arange(100_000), np.arange(100_000) % 1000, [10])
        assert time.process_time() - begin < 1 and chosen.sum() == 10_000

    @pytest.mark.parametrize(
        ("count", "expected"), [(1, [0]), (2, [1, 0]), (3, [1, 2, 0]), (4, [1, 2, 0, 0])]
    )
    def test_a_small_class_trains_first_then_validates_then_tests(self, count, expected):
        assert split_by_content(range(count), [7] * count, [10, 10]).tolist() == expected


class SharesTest:
    def test_shares_are_chosen_by_content_and_not_by_name(self, tmp_path):
        for label, name in enumerate(CLASSES):
            for number in range(5):
                image = own_pictures.photograph(label, number, (9, 11))
                picture = {f"all/{name}/{number}.png": own_pictures.encoded(image, "PNG")}
                own_pictures.write(tmp_path, picture)
        for number in range(3):  # The same pictures under other names.
            image = (tmp_path / f"all/bee/{number}.png").read_bytes()
            (tmp_path / f"all/bee/copy of {number}.png").write_bytes(image)
        keys = {"train": "all", "validation": "20%", "test": "30%"}
        splits = read_splits(config(tmp_path, **keys), tuple(keys))
        contents = {}
        for split, images in splits.items():
            assert np.bincount(images.labels).min() >= 1
            for row in images.pixels:
                contents.setdefault(row.tobytes(), set()).add(split)
        assert len(contents) == 15 and all(len(splits) == 1 for splits in contents.values())
        assert sum(len(images.labels) for images in splits.values()) == 18
        (tmp_path / "all/ant").rename(tmp_path / "all/zebra")
        for path in sorted((tmp_path / "all/bee").iterdir()):
            path.rename(path.with_name(f"{hash(path.name)}.png"))
        again = read_splits(config(tmp_path, **keys), tuple(keys))
        for split, images in again.items():
            assert {x.tobytes() for x in images.pixels} == {
                x.tobytes() for x in splits[split].pixels
            }
        counts = {}
        for held_out in (3, "20%"):
            data = config(tmp_path, train="all", held_out=held_out)
            counts[held_out] = [len(read_images(data, split).labels) for split in keys]
            assert sum(counts[held_out]) == 18 and min(counts[held_out][1:]) >= 3
        assert counts[3] == counts["20%"]  # Of fifteen pictures that differ, at least 3 each.
        for held_out in (2.5, "3", "0%", 10):
            data = config(tmp_path, train="all", held_out=held_out)
            with pytest.raises(ValueError, match="data.held_out=|data.validation=|received none"):
                read_images(data, "train")
        for share, words in (("0%", "validation=0%"), ("100%", "=100%")):
            data = config(tmp_path, train="all", validation=share)
            with pytest.raises(ValueError, match=words):
                read_images(data, "train")
