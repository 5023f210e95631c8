"""What stands beside the weights is read and written as transformers does it."""

import json

import pytest

from kerasformer.interop.description import Description, Preprocessing, describe

OF_DEIT = {
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
OF_DEIT_READ = Preprocessing(
    (224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", resized=256
)


def described(folder, **content):
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    return describe(folder, {"image_size": 32}).preprocessing


class PreprocessingTest:
    def test_a_crop_a_single_size_and_plain_pixels_are_read(self, tmp_path):
        assert described(tmp_path, **OF_DEIT) == OF_DEIT_READ
        assert described(tmp_path, size=224) == Preprocessing((224, 224))
        assert described(tmp_path, size={"height": 3, "width": 5}).image_size == (3, 5)
        assert described(tmp_path).image_size == (32, 32)
        plain = described(tmp_path, do_normalize=False, image_mean=[1, 2, 3])
        assert (plain.mean, plain.std) == ((0, 0, 0), (1, 1, 1))
        with pytest.raises(ValueError, match=r"resample to be one of \[0, 1, 2, 3\], .*=9"):
            described(tmp_path, resample=9)

    @pytest.mark.parametrize("how", [OF_DEIT_READ, Preprocessing((3, 5), interpolation="nearest")])
    def test_what_is_written_is_read_again(self, tmp_path, how):
        Description({}, how).write(tmp_path)
        assert describe(tmp_path, {}).preprocessing == how


class LabelsTest:
    def test_labels_keep_their_order_beyond_nine(self, tmp_path):
        labels = [f"class {index}" for index in range(12)]
        config = Description({}, labels=labels).label_config()
        shuffled = dict(sorted(config["id2label"].items()))
        assert describe(tmp_path, {"id2label": shuffled}).labels == labels
        assert config["label2id"]["class 11"] == 11
        assert describe(tmp_path, {}).labels is None


class FilesTest:
    def test_the_files_of_a_tokenizer_go_along_and_no_others(self, tmp_path):
        for name in ("vocab.json", "run_me.py", "pytorch_model.bin"):
            (tmp_path / name).write_text(name)
        description = describe(tmp_path, {})
        assert list(description.files) == ["vocab.json"]
        copy = tmp_path / "copy"
        copy.mkdir()
        description.write(copy)
        description.write(tmp_path)  # In its own place.
        assert [path.name for path in copy.iterdir()] == ["vocab.json"]
        assert (copy / "vocab.json").read_text() == "vocab.json"
