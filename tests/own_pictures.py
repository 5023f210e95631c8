"""Pictures as people have them: from cameras, Macs, spreadsheets and X-ray machines.

All are small, and the same every time. The red of a picture tells its class.
"""

import io
import re
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests import ROOT

CLASSES = ("ant", "bee", "cat")
QUARTER = 6  # the EXIF orientation of a camera that was turned
ORIENTATION = 0x0112


def photograph(label, number, size=(60, 90)):
    """Makes a picture of soft colours, whose red is that of a class."""
    random = np.random.default_rng([label, number])
    pixels = random.integers(0, 256, (3, 4, 3), np.uint8)
    pixels[..., 0] = 40 + 80 * label + random.integers(0, 30)
    return Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def camera(image, turn=QUARTER, kind="JPEG", **options):
    """Writes a photograph as a camera does that was held in some way."""
    turned = {1: None, 3: Image.Transpose.ROTATE_180, 8: Image.Transpose.ROTATE_270}
    turned |= {6: Image.Transpose.ROTATE_90}
    exif = Image.Exif()
    exif[0x010F], exif[ORIENTATION] = "Wug", turn
    exif[0x8769] = {0x9003: "2026:11:28 09:00:00"}
    stored = image if turned[turn] is None else image.transpose(turned[turn])
    return encoded(stored, kind, quality=95, exif=exif, **options)


def xray(image):
    """Writes a gray picture of 16 bits."""
    levels = np.asarray(image.convert("RGB"), np.uint16)[..., 0] * 257
    return encoded(Image.fromarray(levels), "PNG")


def of_every_kind():
    """Returns the kinds of files that one preprocessing must read alike, by name."""
    image, gray = photograph(1, 5), photograph(1, 6).convert("L")
    clear = image.copy()
    clear.putalpha(gray)
    return {
        "oblong": encoded(photograph(2, 3, (31, 97)), "PNG"),
        "tall": encoded(photograph(2, 3, (97, 31)), "JPEG", quality=95),
        **{f"turned {turn}": camera(image, turn) for turn in (1, 3, 6, 8)},
        **{f"turned {kind}": camera(image, kind=kind) for kind in ("PNG", "WEBP")},
        "palette": encoded(image.convert("P"), "PNG"),
        "gray": encoded(gray, "JPEG", quality=95),
        "transparent": encoded(clear, "PNG"),
        "transparent webp": encoded(clear, "WEBP", lossless=True, exact=True),
        "webp": encoded(image, "WEBP", quality=90),
        "16 bits": xray(image),
        "inks": encoded(image.convert("CMYK"), "JPEG", quality=95),
        "progressive": encoded(image, "JPEG", quality=95, progressive=True),
        "bitmap": encoded(image, "BMP"),
        "palette bitmap": encoded(image.convert("P"), "BMP"),
        "gif": encoded(image.convert("P"), "GIF"),
    }


def code_of_the_docs():
    """Returns the program of docs/runtimes.md that classifies a picture."""
    text = (ROOT / "docs" / "runtimes.md").read_text("utf-8")
    return re.search(r"^# classify\.py\n.*?(?=^```$)", text, re.MULTILINE | re.DOTALL)[0]


def write(folder, files):
    """Writes files by their names below a folder."""
    for name, contents in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)


def zip_from_a_mac(folder, count=3):
    """Unpacks a zip that a Mac made: camera pictures, three to a class, one of them oblong."""
    files = {"pictures/.DS_Store": b"\0", "pictures/readme.txt": b"mine"}
    for label, name in enumerate(CLASSES):
        for number in range(count):
            image = photograph(label, number, (60, 90) if number else (40, 160))
            turn = (1, QUARTER, 8)[number % 3]
            files[f"pictures/{name}/DSC_{number:04}.JPG"] = camera(image, turn)
            files[f"__MACOSX/pictures/{name}/._DSC_{number:04}.JPG"] = b"\0\5\x16\7"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, contents in files.items():
            file.writestr(name, contents)
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)


def spreadsheet_of_xrays(folder, count=6):
    """Writes gray pictures of 16 bits and the table that a spreadsheet made of them."""
    rows, files = ["Image;Label"], {}
    for label, name in enumerate(("healthy", "ill")):
        for number in range(count):
            files[f"scans/{name[0]}{number}.png"] = xray(photograph(2 * label, number, (60, 60)))
            rows.append(f"scans\\{name[0]}{number}.png;{name}")
    files["labels.csv"] = "\r\n".join(rows).encode("utf-8-sig")
    write(folder, files)


def split_folders(folder, count=2):
    """Writes a folder for each split, with what Windows leaves between pictures."""
    files = {"train/desktop.ini": b"", "val/ant/Thumbs.db": b""}
    for split, first in (("train", 0), ("val", 50), ("test", 70)):
        for label, name in enumerate(CLASSES):
            for number in range(first, first + count):
                image = photograph(label, number, (32, 32))
                files[f"{split}/{name}/{number}.png"] = encoded(image, "PNG")
    write(folder, files)
