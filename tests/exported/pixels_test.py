"""What `apps.predict` prints and draws of images, and what it refuses.

The classifier is small and untrained; what its answers must be is asked of it in this process.
"""

import csv
import re
from pathlib import Path

import keras
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasformer.models import VisionTransformer
from pipelines.exported import pixels
from pipelines.exported.answers import Faults, written_to
from pipelines.exported.models import read_saved_model
from pipelines.exported.operations import foreign_operation
from pipelines.tasks.classification.classifier import Classifier
from tests import programs

pytestmark = pytest.mark.integration

NAMES = ["cat", "dog", "wug"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    keras.utils.set_random_seed(7)
    model = VisionTransformer((8, 10), 1, 12, 3, 13, len(NAMES), patch_size=2)
    model.build((None, 8, 10, 3))
    for variable in model.trainable_variables:  # The head starts at zero, and answers nothing.
        variable.assign(variable + keras.random.normal(variable.shape, stddev=0.3))
    described = {"class_names": NAMES, "mean": [100.0] * 3, "deviation": [50.0] * 3, "channels": 3}
    module = Classifier(model, described, (8, 10), crop=1.0)
    folder = tmp_path_factory.mktemp("run") / "export"
    tf.saved_model.save(module, str(folder / "1"), signatures=module.signatures())
    return folder


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(str(exported / "1")).signatures


def predict(signatures, paths, pictures=None, **options):
    """Answers on standard output; returns the exit code."""
    faults = Faults()
    with written_to(None) as write:
        pixels.predict(signatures, paths, write, faults, pictures, **options)
    return faults.exit_code


@pytest.fixture
def files(tmp_path):
    """Writes three pictures of different kinds and sizes."""
    random, paths = np.random.default_rng(3), []
    for name, size in (("a.png", (8, 10)), ("b.jpg", (31, 17)), ("c.bmp", (9, 40))):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        paths.append(str(tmp_path / name))
        Image.fromarray(pixels).save(paths[-1])
    return paths


class PredictTest:
    def test_each_file_has_its_line_best_class_first(self, signatures, files, capsys):
        predict(signatures, files)
        lines = capsys.readouterr().out.splitlines()
        for path, line in zip(files, lines, strict=True):
            found = signatures["classify"](image=tf.constant([Path(path).read_bytes()]))
            first, *answers = line.split("\t")
            names, shares = zip(*(answer.split() for answer in answers), strict=True)
            assert first == path and sorted(names) == NAMES
            assert [name.encode() for name in names] == list(found["class_names"][0].numpy())
            assert np.allclose(np.float32(shares), found["probabilities"][0], atol=1e-4)
            assert list(shares) == sorted(shares, reverse=True)

    def test_a_picture_shows_the_image_and_where_the_model_looked(
        self, signatures, files, tmp_path, capsys
    ):
        pictures = [tmp_path / f"seen-{index}.png" for index in range(3)]
        predict(signatures, files, pictures)
        assert all(min(matplotlib.image.imread(path).shape[:2]) > 100 for path in pictures)
        assert len({path.read_bytes() for path in pictures}) == 3

    def test_bad_files_are_named_and_the_others_go_on(self, signatures, files, tmp_path, capsys):
        predict(signatures, files)
        expected = capsys.readouterr().out
        bad = {
            "empty": b"",
            "gif": b"GIF89a is not enough",
            "cut": Path(files[0]).read_bytes()[:-40],
        }
        paths = [str(tmp_path / f"{name}.png") for name in bad]
        for path, contents in zip(paths, bad.values(), strict=True):
            Path(path).write_bytes(contents)
        mixed = [paths[0], files[0], str(tmp_path / "none.png"), *paths[1:], *files[1:]]
        for batch_size in (2, 32):
            assert predict(signatures, mixed, batch_size=batch_size) == 1
            out, err = capsys.readouterr()
            assert out == expected and "Graph" not in err
            for name, reason in [("empty", "empty"), ("gif", "no BMP"), ("none", "No such file")]:
                assert f"error: {tmp_path}/{name}.png cannot be used: {reason}" in err
            assert re.search(r"error: \S+cut\.png cannot be used: \w+", err)
            assert err.count("\n") == 4

    def test_what_the_pipelines_export_reaches_nothing_else(self, exported):
        assert foreign_operation(read_saved_model(exported / "1")) is None

    def test_of_an_animated_gif_the_first_frame_is_taken(self, signatures, tmp_path, capsys):
        frames = [Image.new("RGB", (10, 8), color) for color in ("red", "blue")]
        path = str(tmp_path / "a.gif")
        frames[0].save(path, save_all=True, append_images=frames[1:])
        frames[0].save(tmp_path / "b.gif")
        predict(signatures, [path, str(tmp_path / "b.gif")])
        first, second = capsys.readouterr().out.splitlines()
        assert first.split("\t")[1:] == second.split("\t")[1:]

    def test_folders_and_patterns_stand_for_their_images(self, files, tmp_path, capsys):
        for name in ("sub/.hidden.png", "sub/Thumbs.db", "__MACOSX/a.png", "sub/D.PNG"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        faults, odd = Faults(), str(tmp_path / "a[1].png")
        Path(odd).write_bytes(b"")
        found = list(pixels.expand([str(tmp_path), f"{tmp_path}/*.b*", odd, "none.png"], faults))
        in_folder = [odd, *files, str(tmp_path / "sub/D.PNG")]
        assert sorted(found[:5]) == sorted(in_folder) and found[5:] == [files[2], odd, "none.png"]
        (tmp_path / "new").mkdir()
        assert not list(pixels.expand([str(tmp_path / "new"), f"{tmp_path}/*.doc"], faults))
        assert faults.count == 2 and "matches no file" in capsys.readouterr().err


class ProgramTest:
    def test_files_are_classified_and_drawn(self, exported, signatures, files, tmp_path, capsys):
        picture = tmp_path / "seen.png"
        (done,) = programs.run(["predict", f"--model={exported}", *files, f"--attention={picture}"])
        predict(signatures, files)
        assert (done.returncode, done.stdout) == (0, capsys.readouterr().out), done.stderr
        drawn = sorted(path.name for path in tmp_path.glob("seen*"))
        assert drawn == ["seen-1.png", "seen-2.png", "seen-3.png"]

    def test_a_list_is_classified_into_a_table(self, exported, signatures, files, tmp_path, capsys):
        (tmp_path / "list.txt").write_text("\n".join([files[0], "", "no.png", *files[1:]]) + "\n")
        table = tmp_path / "answers.csv"
        command = ["predict", f"--model={exported}", f"--file={tmp_path}/list.txt"]
        (done,) = programs.run([*command, f"--output={table}"])
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "error: no.png cannot be used: No such file or directory.\n"
        predict(signatures, files)
        lines = capsys.readouterr().out.splitlines()
        with open(table, newline="") as file:
            for row, line in zip(csv.DictReader(file), lines, strict=True):
                assert line.startswith(f"{row['image']}\t{row['prediction']} ")
                assert float(row["probability"]) >= float(row["probability_3"])
        assert not table.with_suffix(".csv.part").exists()

    def test_what_cannot_be_is_one_line_of_error(self, exported, files, tmp_path):
        predict = ["predict", f"--model={exported}"]
        refused = {
            "Expected --alignment with a translator": ["--alignment=a.png"],
            "Expected --nbest with a translator, received a classifier.": ["--nbest=3"],
            "Expected --output to end in one of": ["--output=a.xls"],
            "Expected --top_k with the folder of a run": ["--top_k=3"],
            "Expected images or --file, received both": ["--file=a.txt"],
        }
        commands = [[*predict, files[0], *arguments] for arguments in refused.values()]
        for done, text in zip(programs.run(*commands), refused, strict=True):
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith(f"error: {text}") and done.stderr.count("\n") == 1
