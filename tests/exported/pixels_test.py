"""What `apps.predict` prints and draws of images, and what it refuses.

The classifier is small and untrained; what its answers must be is asked of it in this process.
"""

from pathlib import Path

import keras
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasformer.models import VisionTransformer
from pipelines.exported.pixels import predict
from pipelines.tasks.classification.classifier import Classifier
from tests import programs

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
        predict(signatures, files, pictures=None)
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

    @pytest.mark.parametrize(
        ("contents", "fault"),
        [(b"", "empty"), (b"GIF89a is not enough", "no image"), (b"text", "no image")],
    )
    def test_a_bad_file_is_named_before_anything_is_printed(
        self, signatures, files, tmp_path, capsys, contents, fault
    ):
        (tmp_path / "bad.png").write_bytes(contents)
        with pytest.raises(ValueError, match=rf"bad\.png cannot be used: {fault}"):
            predict(signatures, [*files, str(tmp_path / "bad.png")], pictures=None)
        assert capsys.readouterr().out == ""

    def test_a_file_that_is_cut_off_is_named_before_anything_is_printed(
        self, signatures, files, tmp_path, capsys
    ):
        (tmp_path / "cut.png").write_bytes(Path(files[0]).read_bytes()[:-40])
        with pytest.raises(ValueError, match=r"cut\.png cannot be used: \w+") as caught:
            predict(signatures, [*files, str(tmp_path / "cut.png")], pictures=None)
        assert "Graph" not in str(caught.value) and capsys.readouterr().out == ""

    def test_of_an_animated_gif_the_first_frame_is_taken(self, signatures, tmp_path, capsys):
        frames = [Image.new("RGB", (10, 8), color) for color in ("red", "blue")]
        path = str(tmp_path / "a.gif")
        frames[0].save(path, save_all=True, append_images=frames[1:])
        frames[0].save(tmp_path / "b.gif")
        predict(signatures, [path, str(tmp_path / "b.gif")], pictures=None)
        first, second = capsys.readouterr().out.splitlines()
        assert first.split("\t")[1:] == second.split("\t")[1:]

    def test_no_file_is_refused(self, signatures):
        with pytest.raises(ValueError, match="paths of images as arguments, received none"):
            predict(signatures, [], pictures=None)


class ProgramTest:
    def test_files_are_classified_and_drawn(self, exported, signatures, files, tmp_path, capsys):
        picture = tmp_path / "seen.png"
        (done,) = programs.run(["predict", f"--model={exported}", *files, f"--attention={picture}"])
        predict(signatures, files, pictures=None)
        assert (done.returncode, done.stdout) == (0, capsys.readouterr().out), done.stderr
        drawn = sorted(path.name for path in tmp_path.glob("seen*"))
        assert drawn == ["seen-1.png", "seen-2.png", "seen-3.png"]

    def test_what_cannot_be_is_one_line_of_error(self, exported, files, tmp_path):
        missing = tmp_path / "no.png"
        predict = ["predict", f"--model={exported}"]
        refused = {
            "--alignment with a translator, received a classifier": [files[0], "--alignment=a.png"],
            "--file with a translator, received a classifier": [files[0], "--file=a.txt"],
            "--nbest with a translator, received a classifier": [files[0], "--nbest=3"],
        }
        commands = [[*predict, *arguments] for arguments in refused.values()]
        *done_commands, lost = programs.run(*commands, [*predict, missing])
        for done, text in zip(done_commands, refused, strict=True):
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.splitlines() == [f"error: Expected {text}."]
        assert (lost.returncode, lost.stdout) == (1, "")
        (line,) = lost.stderr.splitlines()
        assert line.startswith("error: ") and "no.png" in line
