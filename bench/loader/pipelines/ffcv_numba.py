"""FFCV, one worker, its files in the page cache (os_cache), random order, as its performance guide recommends.

It resizes by OpenCV's INTER_AREA and has no other filter. Float comes from its own NormalizeImage (a table), channels
last. The set is small, so each epoch goes over it PASSES times: FFCV allocates its buffers anew for every epoch, which
with a real data set happens once an hour.
"""
import numpy
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader
from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, ToTensor, ToTorchImage

from . import FLIP, IMAGE_SIZE, MEAN, RATIO, SCALE, STD

PASSES = 16


def image_pipeline(as_float):
    steps = [RandomResizedCropRGBImageDecoder((IMAGE_SIZE, IMAGE_SIZE), scale=SCALE, ratio=RATIO),
             RandomHorizontalFlip(FLIP)]
    if as_float:
        steps.append(NormalizeImage(255 * numpy.array(MEAN), 255 * numpy.array(STD), numpy.float32))
    return steps + [ToTensor(), ToTorchImage()]


def open(mode, options):
    path = options.ffcv / ("half_raw.beton" if "half_raw" in mode else "jpeg.beton")
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run bench/loader/setup")
    images = numpy.tile(numpy.arange(Reader(str(path)).num_samples, dtype="uint64"), PASSES)
    loader = Loader(str(path), batch_size=options.batch, num_workers=1, os_cache=True, order=OrderOption.RANDOM,
                    indices=images, drop_last=True,
                    pipelines={"image": image_pipeline(mode.endswith("float")), "label": [IntDecoder(), ToTensor()]})
    while True:
        for batch, _ in loader:
            yield batch
