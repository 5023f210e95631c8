"""What `apps.explain` draws of a run, and what it refuses; the models are small and untrained."""

import csv
import types

import keras
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from apps import tasks
from kerasformer import explain
from kerasformer.models import VisionTransformer
from pipelines.images.augmentation import resize_and_crop
from pipelines.images.description import read_description
from pipelines.images.explanation import Request, explain_run
from pipelines.images.files import decode
from pipelines.images.models import image_size, make
from pipelines.images.module import ImageModule
from pipelines.images.module_inputs import read_files, read_split
from pipelines.images.unit_sheets import Units
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.config import write_config
from pipelines.runs.files import write_text
from pipelines.runs.folder import locked
from pipelines.runs.weights import load_run, model_variables
from pipelines.tasks import classification
from tests import programs

SIZE, COUNT = (8, 10), 37
PIXELS = np.random.default_rng(3).integers(0, 256, (COUNT, *SIZE), np.uint8)
VIT = {"variant": "ViT-Lite-6/4", "patch_size": 2, "num_layers": 2, "hidden_dim": 12}
VIT |= {"num_heads": 3, "intermediate_dim": 13}
CNN = {"name": "convolutional", "variant": "ResNet-20"}


def make_run(folder, **model):
    """Writes the folder of a run that has a checkpoint, and was never trained."""
    folder.mkdir()
    labels = np.arange(COUNT) % 3
    np.savez(folder / "data.npz", images=PIXELS, labels=labels, class_names=["ant", "bee", "wug"])
    config = classification.default_config()
    data = str(folder / "data.npz")
    config.data.update(format="npz", folder="", train=data, validation=data, test=data)
    config.model.update(image_size=SIZE, **model)
    write_config(folder, config)
    write_text(
        folder / "images.json",
        '{"class_names": ["ant", "bee", "wug"], "channels": 1, "mean": [99], "deviation": [53]}',
    )
    keras.utils.set_random_seed(7)
    network = classification.build(config, folder)
    arrays = {name: keras.ops.convert_to_numpy(x) for name, x in model_variables(network).items()}
    random = np.random.default_rng(5)
    for name, x in arrays.items():
        if np.array_equal(x, np.zeros(x.shape)):  # The head starts at zero, and answers nothing.
            arrays[name] = random.normal(size=x.shape).astype(x.dtype)
    Checkpoints(folder / "checkpoints").save(1, arrays, {})
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "vit", **VIT)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "cnn", **CNN)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (31, 23, 3), np.uint8)).save(path)
    return str(path)


def look(run, output, files=None, find=tasks.find, **request):
    """Explains a run; returns what was said of its files."""
    said = []
    explain_run(find, str(run), None, Request(**request), str(output), files, said.append)
    return said


def read_table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def without_head(config, folder):
    model = make(config)
    model.build((None, *image_size(config), 1))
    return model


# As a task is that learns without labels: of the same variables, it knows the encoder's alone.
UNLABELLED = types.SimpleNamespace(
    default_config=classification.default_config,
    build=without_head,
    serving=lambda model, config, folder: ImageModule(model, read_description(folder), SIZE),
)


class InputsTest:
    def test_files_and_splits_are_what_an_evaluation_sees(self, vit, picture, tmp_path):
        module = load_run(tasks.find, str(vit))
        bad, cut = tmp_path / "bad.png", tmp_path / "cut.png"
        bad.write_bytes(b"GIF89a is not enough")
        with open(picture, "rb") as file:
            cut.write_bytes(file.read(300))
        said = []
        pixels, names = read_files(module, [str(bad), picture, str(cut), "none.png"], said.append)
        assert names == [picture] and [sentence.split(":")[1] for sentence in said] == [
            " no BMP, GIF, JPEG, PNG or WebP image.",
            " Invalid PNG data, size 300",
            " No such file or directory.",
        ]
        upright = decode(tf.io.read_file(picture), 1)
        np.testing.assert_array_equal(pixels, resize_and_crop(upright, SIZE, 1.0)[None])
        data = classification.default_config().data
        data.update(format="npz", folder="", train=str(vit / "data.npz"))
        pixels, names = read_split(module, data, "train", 5)
        assert names == [f"image {index}" for index in (0, 9, 18, 27, 36)]
        np.testing.assert_array_equal(pixels[..., 0], PIXELS[::9])
        assert len(read_split(module, data, "train", 99)[1]) == COUNT
        labels = np.arange(COUNT) % 3
        np.savez(tmp_path / "rgb.npz", images=np.stack([PIXELS] * 3, axis=-1), labels=labels)
        data.test = str(tmp_path / "rgb.npz")
        with pytest.raises(ValueError, match="of 1 channels, .* split='test', received 3"):
            read_split(module, data, "test", 5)


class ExplainTest:
    def test_pictures_and_tables_of_a_split_are_those_of_all_its_images(self, vit, tmp_path):
        layer = "block_1/feed_forward/feed_forward/inner_dense"
        look(vit, tmp_path / "out", show=["distance", "units"], layer=layer, units=[2, 11])
        module = load_run(tasks.find, str(vit))
        images = module.normalize(PIXELS[..., None])
        _, scores = module.model.encode(images, return_attention_scores=True)
        distances = [
            explain.attention_distance(x, (4, 5), module.model.num_prefix_tokens, 2).numpy().mean(0)
            for x in scores
        ]
        table = read_table(tmp_path / "out/distance.tsv")
        found = [float(row["pixels"]) for row in table]
        np.testing.assert_allclose(found, np.ravel(distances), atol=1e-3)
        maps = explain.unit_maps(module.model, explain.find_layer(module.model, layer), images)
        peaks = maps.numpy()[..., [2, 11]].max(axis=(1, 2))
        rows = read_table(tmp_path / "out/units.tsv")
        for unit in range(2):
            best = np.argsort(-peaks[:, unit])[:9]
            of_unit = rows[9 * unit : 9 * unit + 9]
            assert [row["image"] for row in of_unit] == [f"image {index}" for index in best]
            np.testing.assert_allclose(
                [float(r["value"]) for r in of_unit], peaks[best, unit], 1e-4
            )
            # A token sees the whole image: its patch is shown.
            assert all(int(row["bottom"]) - int(row["top"]) == 2 for row in of_unit)
        drawn = {path.name for path in (tmp_path / "out").iterdir()}
        assert drawn == {"distance.png", "distance.tsv", "units.png", "units.tsv"}

    def test_a_file_gets_pictures_of_its_own(self, vit, picture, tmp_path, capsys):
        said = look(vit, tmp_path / "out", [picture, "no.png"], show=["attention", "saliency"])
        assert said == ["no.png cannot be used: No such file or directory."]
        lines = capsys.readouterr().out.splitlines()
        for name, line in zip(("attention-1.png", "saliency-1.png"), lines, strict=True):
            path, title = line.split("\t")
            assert path == str(tmp_path / "out" / name)
            assert title.startswith("picture.png: ") and title.endswith(" %)")
            assert min(matplotlib.image.imread(path).shape[:2]) > 200

    def test_a_model_without_a_head_is_looked_into_as_well(self, vit, picture, tmp_path, capsys):
        options = {"find": lambda _: UNLABELLED, "show": ["saliency"]}
        look(vit, tmp_path, [picture], **options)
        assert capsys.readouterr().out == f"{tmp_path}/saliency-1.png\tpicture.png\n"
        with pytest.raises(ValueError, match="of which this model has none.*--target=bee"):
            look(vit, tmp_path, [picture], target="bee", **options)

    def test_a_convolutional_network_has_units_and_saliency(self, cnn, picture, tmp_path, capsys):
        options = {"units": [3], "layer": "stage_0_0_activation", "target": "units"}
        look(cnn, tmp_path, [picture], show=["layers", "units", "saliency"], **options)
        assert "trunk/stage_2_2_activation\t2 x 3\t64 units\n" in capsys.readouterr().out
        assert (tmp_path / "saliency-1.png").exists()
        rows = read_table(tmp_path / "units.tsv")
        # Three convolutions of 3 x 3 pixels.
        top, left, bottom, right = (int(rows[0][key]) for key in ("top", "left", "bottom", "right"))
        assert len(rows) == 1 and 4 <= bottom - top <= 7 and 4 <= right - left <= 7
        with pytest.raises(ValueError, match="without attention, .* --show=distance"):
            look(cnn, tmp_path / "none", show=["units", "distance"])

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            ({"show": ["heads"]}, "--show=heads"),
            ({"target": "cow"}, r"a class \(ant, bee, wug\), received --target=cow"),
            ({"layer": "block_7", "show": ["units"]}, "received 'block_7', which none"),
            ({"layer": "head", "units": [3], "show": ["units"]}, "from 0 to 2, .*--units=3"),
            ({"files": ["none.png"]}, "an image that can be used, received none"),
        ],
    )
    def test_what_cannot_be_is_one_sentence_and_leaves_nothing(
        self, vit, tmp_path, request_, message
    ):
        with pytest.raises(ValueError, match=message) as caught:
            look(vit, tmp_path / "out", **request_)
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()

    def test_an_output_that_cannot_be_written_is_known_before_the_work(self, vit, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(ValueError, match="file cannot be written: Not a directory"):
            look(vit, tmp_path / "file", target="cow")
        with (
            locked(tmp_path, ".lock-explain"),
            pytest.raises(ValueError, match="Another process draws into"),
        ):
            look(vit, tmp_path, target="cow")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_units_of_an_encoder_of_a_single_patch_are_found(self):
        model = VisionTransformer((2, 2), 2, 6, 1, 5, 3, patch_size=2)
        model.build((None, 2, 2, 1))
        module = ImageModule(model, {"channels": 1, "mean": [99], "deviation": [53]}, (2, 2))
        layers = explain.layers_on_grid(model, module.normalize(PIXELS[:1, :2, :2, None]))
        units = Units(module, layers)
        assert not layers and units.grid == (1, 1) and units.box((0, 0)) == (0, 0, 2, 2)


@pytest.mark.integration
class ProgramTest:
    def test_it_draws_and_names_what_it_cannot_use(self, vit, picture, tmp_path):
        given = ["explain", f"--workdir={vit}", f"--output={tmp_path}/out"]
        drawn, numbers = programs.run(
            [*given, "--show=attention", picture, "none.png"], [*given, "--units=a,b"]
        )
        assert drawn.returncode == 1 and drawn.stdout.startswith(
            f"{tmp_path}/out/attention-1.png\t"
        )
        assert drawn.stderr == "error: none.png cannot be used: No such file or directory.\n"
        assert numbers.returncode == 1
        assert numbers.stderr == "error: Expected --units to be numbers, received --units=a,b.\n"
