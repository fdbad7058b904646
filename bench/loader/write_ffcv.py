"""Writes FFCV's data sets of an image folder: jpeg.beton (all JPEG) and half_raw.beton (half of them as pixels).

FFCV stores no foreign files: it decodes each image and encodes it again, here at the photographs' own quality, which
gives about the same bytes. Half is its write_mode "proportion"; the seed is one that draws exactly half.
"""
import argparse
import pathlib

import numpy
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter
from torchvision.datasets import ImageFolder

QUALITY = 96


def seed_of_exactly_half(count):
    return next(seed for seed in range(1000)
                if (numpy.random.RandomState(seed).rand(count) < 0.5).sum() == count // 2)


def write(dataset, path, field):
    """Whole or not at all. One process, so that the raw images are drawn in the files' order."""
    if path.exists():
        return
    partial = path.with_suffix(".partial")
    numpy.random.seed(seed_of_exactly_half(len(dataset)))
    DatasetWriter(str(partial), {"image": field, "label": IntField()}, num_workers=1).from_indexed_dataset(dataset)
    partial.rename(path)


def describe(path):
    modes = Reader(str(path)).metadata["f0"]["mode"]
    raw = int((modes == IMAGE_MODES["raw"]).sum())
    print(f"{path}: {len(modes)} images, {raw} of them raw, {path.stat().st_size / 1e6:.0f} MB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    dataset = ImageFolder(options.folder)
    fields = {
        "jpeg": RGBImageField(write_mode="jpg", jpeg_quality=QUALITY),
        "half_raw": RGBImageField(write_mode="proportion", compress_probability=0.5, jpeg_quality=QUALITY),
    }
    for name, field in fields.items():
        path = options.output / f"{name}.beton"
        write(dataset, path, field)
        describe(path)


if __name__ == "__main__":
    main()
