"""Tests of reading labelled images: every format, and every way to get it wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pipelines.images.labelled import read_images, read_splits
from pipelines.images.splits import SPLITS
from tests.images.samples import LABELS, PIXELS, config

RANDOM = np.random.default_rng(0)


class FormatTest:
    @pytest.mark.parametrize("name", ["png", None, ""])
    def test_an_unknown_format_is_refused(self, name):
        with pytest.raises(ValueError, match="data.format"):
            read_images(config(name), "train")

    def test_an_unknown_split_is_refused(self):
        with pytest.raises(ValueError, match="split='dev'"):
            read_images(config("digits"), "dev")

    def test_another_way_with_bad_images_is_refused(self):
        with pytest.raises(ValueError, match="data.on_bad_image='ignore'"):
            read_images(config("digits", on_bad_image="ignore"), "train")


class ClassesTest:
    def test_some_classes_are_kept_and_counted_anew(self):
        every = read_images(config("digits"), "test")
        some = read_images(config("digits", classes=("7", "2")), "test")
        assert some.class_names == ("7", "2")
        for label, digit in enumerate((7, 2)):
            expected = every.pixels[every.labels == digit]
            np.testing.assert_array_equal(some.pixels[some.labels == label], expected)
        assert some.labels.dtype == np.int32

    @pytest.mark.parametrize("names", [("7", "seven"), ("7", "7")])
    def test_a_class_that_is_unknown_or_named_twice_is_refused(self, names):
        with pytest.raises(ValueError, match=r"some of \('0', '1'.*received data.classes=\('7', "):
            read_images(config("digits", classes=names), "train")

    def test_a_split_without_them_is_refused(self, tmp_path):
        np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS, class_names=list("abcd"))
        with pytest.raises(ValueError, match="received none"):
            read_images(config("npz", tmp_path, train="a.npz", classes=("d",)), "train")


class WithoutClassesTest:
    def test_a_folder_a_table_and_arrays_give_all_their_images(self, tmp_path):
        for name in ("a/b/one.png", "two.png", ".hidden/three.png"):
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PIXELS[0]).save(path)
        (tmp_path / "photos.csv").write_text("photos/two.png\nphotos/a/b/one.png\n")
        np.savez(tmp_path / "photos.npz", images=PIXELS[:2])
        for name, train in (("folder", "photos"), ("csv", "photos.csv"), ("npz", "photos.npz")):
            images = read_images(config(name, tmp_path, train=train, labels="none"), "train")
            assert images.class_names == () and images.labels.tolist() == [0, 0], name
            assert images.classes(0) == []
            np.testing.assert_array_equal(images.pixels[0], PIXELS[0])

    def test_shares_are_cut_from_them(self, tmp_path):
        np.savez(tmp_path / "all.npz", images=np.arange(40 * 3, dtype=np.uint8).reshape(40, 1, 3))
        data = config("npz", tmp_path, train="all.npz", labels="none", validation="10%", test="10%")
        counts = {split: len(images.labels) for split, images in read_splits(data, SPLITS).items()}
        assert counts == {"train": 32, "validation": 4, "test": 4}

    def test_classes_cannot_be_chosen_among_them(self):
        with pytest.raises(ValueError, match="no data.classes with .*received .'7'"):
            read_images(config("digits", labels="none", classes="7"), "train")

    def test_where_there_is_none_is_one_sentence(self, tmp_path):
        (tmp_path / "a.csv").write_text("name\tclass\nx\ty\n")
        (tmp_path / "empty").mkdir()
        for name, train, words in (
            ("folder", "empty", "pictures below .*empty, received none"),
            ("folder", "a.csv", "a folder of pictures, received .*a.csv"),
            ("csv", "a.csv", "a column of path, .* received name, class"),
        ):
            with pytest.raises(ValueError, match=words):
                read_images(config(name, tmp_path, train=train, labels="none"), "train")


class DigitsTest:
    def test_each_is_in_one_split_and_each_class_in_all(self):
        splits = [read_images(config("digits"), name) for name in ("train", "validation", "test")]
        assert sum(len(images.labels) for images in splits) == 1797
        rows = {row.tobytes() for images in splits for row in images.pixels}
        assert len(rows) == 1797  # no two digits are alike
        for images, share in zip(splits, (0.7, 0.1, 0.2), strict=True):
            assert abs(len(images.labels) / 1797 - share) < 0.01
            counts = np.bincount(images.labels)
            assert np.abs(counts - 1797 * share / 10).max() < 5
            assert images.pixels.dtype == np.uint8 and images.pixels.shape[1:] == (8, 8, 1)
            assert images.pixels.max() == 255 and images.pixels.min() == 0
            assert images.class_names == tuple("0123456789")

    def test_without_scikit_learn_the_error_names_the_pip_line(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        with pytest.raises(ImportError, match=r'pip install "kerasformer\[pipelines\]"'):
            read_images(config("digits"), "train")


class FolderTest:
    def write(self, folder, classes=("ant", "bee"), count=5, size=11):
        for label, name in enumerate(classes):
            (folder / name).mkdir(parents=True)
            for number in range(count):
                pixels = PIXELS[5 * label + number, :size]
                Image.fromarray(pixels).save(folder / name / f"{number}.png")

    def test_images_of_one_size_are_decoded(self, tmp_path):
        self.write(tmp_path / "train")
        (tmp_path / "train" / ".cache").mkdir()
        (tmp_path / "train" / "ant" / ".hidden").write_text("")
        images = read_images(config("folder", tmp_path, train="train"), "train")
        assert images.are_decoded and images.class_names == ("ant", "bee")
        np.testing.assert_array_equal(images.pixels, PIXELS[:10])
        assert images.labels.tolist() == [0] * 5 + [1] * 5

    def test_images_of_several_sizes_stay_files(self, tmp_path):
        self.write(tmp_path / "train")
        self.write(tmp_path / "train", classes=("cat",), size=7)
        images = read_images(config("folder", tmp_path, train="train"), "train")
        assert not images.are_decoded
        assert images.pixels[14] == str(tmp_path / "train/cat/4.png")
        assert images.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5

    def test_a_folder_known_to_be_good_is_only_listed(self, tmp_path):
        self.write(tmp_path / "train")
        (tmp_path / "train" / "bee" / "9.png").write_text("")
        data = config("folder", tmp_path, train="train", examine=False)
        assert len(read_images(data, "train").pixels) == 11

    def test_gray_is_made_where_one_channel_is_asked_for(self, tmp_path):
        self.write(tmp_path / "train")
        images = read_images(config("folder", tmp_path, train="train", channels=1), "train")
        gray = np.asarray(Image.fromarray(PIXELS[3]).convert("L"))
        np.testing.assert_array_equal(images.pixels[3, ..., 0], gray)
        four = read_images(config("folder", tmp_path, train="train", channels=4), "train").pixels
        np.testing.assert_array_equal(four[..., :3], PIXELS[:10])
        assert four[..., 3].min() == 255
        with pytest.raises(ValueError, match="data.channels=2"):
            read_images(config("folder", tmp_path, train="train", channels=2), "train")

    def test_bad_images_stop_the_run_or_are_skipped(self, tmp_path, capsys):
        self.write(tmp_path / "train")
        bee = tmp_path / "train" / "bee"
        (bee / "0.png").write_bytes(b"")
        (bee / "1.png").write_bytes((bee / "1.png").read_bytes()[:-40])
        (bee / "phone.HEIC").write_text("a picture of a kind that cannot be read")
        with pytest.raises(ValueError, match=r"3 of 11.*0\.png \(empty\)") as error:
            read_images(config("folder", tmp_path, train="train"), "train")
        assert "1.png (cannot be decoded)" in str(error.value)
        assert "phone.HEIC (not one of .bmp" in str(error.value)
        data = config("folder", tmp_path, train="train", on_bad_image="skip")
        images = read_images(data, "train")
        np.testing.assert_array_equal(images.pixels, PIXELS[[0, 1, 2, 3, 4, 7, 8, 9]])
        assert images.labels.tolist() == [0] * 5 + [1] * 3
        assert "Skipped 3 of 11" in capsys.readouterr().out

    def test_pictures_of_12_bits_in_files_of_16_are_noted_once(self, tmp_path, capsys):
        for factor, is_dark in ((16, True), (257, False)):
            for number in range(4):
                path = tmp_path / "all" / "ab"[number % 2] / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                levels = PIXELS[number, ..., 0].astype(np.uint16) * factor
                Image.fromarray(levels).save(path)
            read_splits(config("folder", tmp_path, train="all", test="50%"), ("train", "test"))
            said = capsys.readouterr().out
            assert said.count("Nearly black: 2 of 2 pictures") == is_dark and is_dark == bool(said)

    def test_the_most_pixels_can_be_chosen(self, tmp_path):
        self.write(tmp_path / "train")
        with pytest.raises(ValueError, match=r"10 of 10.*too large: 13 x 11 pixels"):
            read_images(config("folder", tmp_path, train="train", max_pixels=142), "train")

    def test_a_split_may_lack_a_class_but_not_add_one(self, tmp_path):
        self.write(tmp_path / "train", classes=("ant", "bee", "cat"))
        self.write(tmp_path / "test", classes=("cat",))
        data = config("folder", tmp_path, train="train", test="test")
        assert read_images(data, "test").labels.tolist() == [2] * 5
        self.write(tmp_path / "test", classes=("dog",))
        with pytest.raises(ValueError, match="classes of data.train='train', received 'dog'"):
            read_images(data, "test")

    def test_a_folder_can_be_cut_class_by_class(self, tmp_path):
        self.write(tmp_path / "all")
        data = config("folder", tmp_path, train="all[:80%]", test="all[80%:]")
        np.testing.assert_array_equal(read_images(data, "test").pixels, PIXELS[[4, 9]])
        assert read_images(data, "train").labels.tolist() == [0] * 4 + [1] * 4

    def test_folders_without_classes_or_images_are_named(self, tmp_path):
        with pytest.raises(ValueError, match="Cannot read .*absent.*No such file"):
            read_images(config("folder", tmp_path, train="absent"), "train")
        (tmp_path / "a.png").write_bytes(b"")
        with pytest.raises(ValueError, match="one folder per class"):
            read_images(config("folder", tmp_path.parent, train=tmp_path.name), "train")
        (tmp_path / "ant").mkdir()
        (tmp_path / "bee").mkdir()
        with pytest.raises(ValueError, match=r"received none in \S+/ant, \S+/bee\."):
            read_images(config("folder", tmp_path.parent, train=tmp_path.name), "train")
        self.write(tmp_path, classes=("cat",))
        with pytest.raises(ValueError, match=r"received none in \S+/ant, \S+/bee\."):
            read_images(config("folder", tmp_path.parent, train=tmp_path.name), "train")
        data = config("folder", tmp_path.parent, train=tmp_path.name, classes=("cat",))
        with pytest.raises(ValueError, match="at least two classes, received 'cat' alone"):
            read_images(data, "train")

    def test_all_faults_of_all_splits_are_told_at_once(self, tmp_path):
        self.write(tmp_path / "train")
        self.write(tmp_path / "test")
        (tmp_path / "train/ant/0.png").write_bytes(b"")
        (tmp_path / "test/bee/3.png").write_bytes(b"GIF89a")
        data = config("folder", tmp_path, train="train", validation="val", test="test")
        with pytest.raises(ValueError, match=r"ant/0\.png .empty.*/val'.*bee/3\.png .no BMP, GIF"):
            read_splits(data, ("train", "validation", "test"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepares tiny datasets of TFDS in another process."""
    folder = tmp_path_factory.mktemp("tfds")
    program = (
        "import json, sys, numpy as np, tensorflow as tf, tensorflow_datasets as tfds\n"
        "f = tfds.features\n"
        "def store(name, image, images, labels, keys=('image', 'label'), **more):\n"
        "    features = f.FeaturesDict({'image': image, 'label': more.pop('label', None)\n"
        "                               or f.ClassLabel(names=['ant', 'bee', 'cat'])})\n"
        "    data = tf.data.Dataset.from_generator(\n"
        "        lambda: ({'image': i, 'label': l} for i, l in zip(images, labels)),\n"
        "        output_signature={'image': tf.TensorSpec(None, tf.uint8),\n"
        "                          'label': tf.TensorSpec((), tf.int64)})\n"
        "    tfds.dataset_builders.store_as_tfds_dataset(\n"
        "        name=name, version='1.0.0', data_dir=sys.argv[1], features=features,\n"
        "        split_datasets={'train': data}, disable_shuffling=True)\n"
        "pixels, labels = (np.array(x) for x in json.load(sys.stdin))\n"
        "pixels = pixels.astype(np.uint8)\n"
        "store('even', f.Image(shape=(11, 13, 3)), pixels, labels)\n"
        "store('gray', f.Image(shape=(11, 13, 1)), pixels[..., :1], labels)\n"
        "store('uneven', f.Image(), [p[: 3 + i] for i, p in enumerate(pixels[:8])], labels)\n"
        "store('regression', f.Image(), pixels, labels, label=f.Scalar(tf.int64))\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        input=json.dumps([PIXELS.tolist(), LABELS.tolist()]),
        text=True,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.mark.integration
class TfdsTest:
    def data(self, folder, name="even", train="train", **keys):
        return config("tfds", data_dir=str(folder), name=name, train=train, download=False, **keys)

    @pytest.mark.parametrize("name, channels", [("even", 3), ("gray", 1)])
    def test_prepared_images_are_decoded(self, prepared, name, channels):
        images = read_images(self.data(prepared, name), "train")
        np.testing.assert_array_equal(images.pixels, PIXELS[..., :channels])
        np.testing.assert_array_equal(images.labels, LABELS)
        assert images.class_names == ("ant", "bee", "cat")

    def test_a_part_of_a_split_can_be_chosen(self, prepared):
        images = read_images(self.data(prepared, train="train[20:23]"), "train")
        np.testing.assert_array_equal(images.pixels, PIXELS[20:23])

    def test_images_of_several_sizes_stay_encoded(self, prepared):
        images = read_images(self.data(prepared, "uneven"), "train")
        assert not images.are_decoded and len(images.pixels) == len(images.labels) == 8
        assert all(isinstance(contents, bytes) for contents in images.pixels)

    @pytest.mark.parametrize(
        "keys, words",
        [
            ({"train": "dev"}, "split 'dev'"),
            ({"name": "absent_images"}, "absent_images"),
            ({"name": "regression"}, "no dataset of images with one class each"),
            ({"max_pixels": 7}, "31 of 31 that cannot: example 0"),
        ],
    )
    def test_what_cannot_be_used_is_named_in_one_line(self, prepared, keys, words):
        with pytest.raises(ValueError, match=words) as error:
            read_images(self.data(prepared, **keys), "train")
        assert "\n" not in str(error.value)

    def test_what_does_not_fit_into_memory_is_refused(self, prepared, monkeypatch):
        monkeypatch.setattr("pipelines.images.labelled.MAX_ENCODED", 1)
        with pytest.raises(ValueError, match="do not fit into memory"):
            read_images(self.data(prepared), "train")

    def test_labels_that_are_no_classes_are_left_where_none_are_needed(self, prepared):
        images = read_images(self.data(prepared, "regression", labels="none"), "train")
        np.testing.assert_array_equal(images.pixels, PIXELS)
        assert images.class_names == () and not images.labels.any()

    def test_without_tfds_the_error_names_the_pip_line(self, prepared, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        with pytest.raises(ImportError, match=r'pip install "kerasformer\[pipelines\]"'):
            read_images(self.data(prepared), "train")
