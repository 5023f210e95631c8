"""A picture becomes the same pixels in evaluation, in an export and in the code of the docs."""

import numpy as np
import pytest
import tensorflow as tf
from PIL.PngImagePlugin import PngInfo

from pipelines.images.batches import evaluation_dataset
from pipelines.images.dataset import Images
from pipelines.tasks.classification.classifier import Classifier
from tests import own_pictures

SIZE, CROP = (24, 40), 0.875
XMP = PngInfo()
XMP.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
PICTURE = own_pictures.photograph(1, 7)
FILES = {
    **own_pictures.of_every_kind(),
    "turned by XMP alone": own_pictures.encoded(PICTURE, "PNG", pnginfo=XMP),
}


@pytest.mark.parametrize(
    ("channels", "interpolation"), [(1, "lanczos3"), (3, "bicubic"), (4, "bilinear")]
)
def test_the_pixels_are_those_of_the_export(channels, interpolation, tmp_path):
    statistics = {"mean": [0.0] * channels, "deviation": [1.0] * channels}
    described = {"class_names": ["ant", "bee"], "channels": channels, **statistics}
    described |= {"interpolation": interpolation}
    module = Classifier(None, described, SIZE, CROP)  # Decoding asks no model.
    exported = module.decode(tf.constant(list(FILES.values())))["pixels"].numpy()

    own_pictures.write(tmp_path, {str(i): x for i, x in enumerate(FILES.values())})
    paths = np.array([str(tmp_path / str(i)) for i in range(len(FILES))])
    images = Images(paths, np.zeros(len(paths), np.int32), ("ant", "bee"), channels)
    (batch,) = evaluation_dataset(
        images, len(paths), SIZE, *statistics.values(), CROP, interpolation=interpolation
    )
    np.testing.assert_array_equal(batch["images"], exported)

    names = {"__name__": "classify"}
    exec(own_pictures.code_of_the_docs(), names)
    prepare = names["prepare"]
    for (kind, contents), path, expected in zip(FILES.items(), paths, exported, strict=True):
        (found,) = prepare(path, *SIZE, channels, CROP, interpolation)
        assert found.dtype == np.uint8
        difference = np.abs(found.astype(int) - expected)
        is_jpeg = contents[:2] == b"\xff\xd8"  # Which the two decompress a little differently.
        assert difference.mean() <= (3 if is_jpeg else 0.7), kind
        assert difference.max() <= (12 if is_jpeg else 3), kind
