"""NVIDIA DALI's CPU pipeline, one thread: decoding of the crop's region only, resize, flip and normalisation fused.

Batches are DALI's own lists of tensors, without a copy into PyTorch. Its augmentation does a little less than DeiT's:
contrast is around mid-grey instead of the image's mean, and the jitter's three steps have a fixed order (one matrix).
"""
import nvidia.dali.fn as fn
import nvidia.dali.types as types
from nvidia.dali import pipeline_def

from . import BLUR_SIGMA, FLIP, IMAGE_SIZE, JITTER, MEAN, RATIO, SCALE, SOLARIZE_THRESHOLD, STD


def cropped(folder, interpolation):
    files, labels = fn.readers.file(file_root=str(folder), random_shuffle=True, name="files")
    images = fn.decoders.image_random_crop(files, device="cpu", output_type=types.RGB, random_area=SCALE,
                                           random_aspect_ratio=RATIO, num_attempts=10)
    return fn.resize(images, size=[IMAGE_SIZE, IMAGE_SIZE], interp_type=interpolation), labels


def flipped(images, as_float):
    mirror = fn.random.coin_flip(probability=FLIP)
    if not as_float:
        return fn.crop_mirror_normalize(images, mirror=mirror, dtype=types.UINT8, output_layout="HWC")
    return fn.crop_mirror_normalize(images, mirror=mirror, dtype=types.FLOAT, output_layout="CHW",
                                    mean=[255 * m for m in MEAN], std=[255 * s for s in STD])


def jitter():
    return fn.random.uniform(range=[1 - JITTER, 1 + JITTER])


@pipeline_def
def plain(folder, interpolation, as_float):
    images, labels = cropped(folder, interpolation)
    return flipped(images, as_float), labels


@pipeline_def(enable_conditionals=True)
def augmented(folder):
    images, labels = cropped(folder, types.INTERP_CUBIC)
    choice = fn.random.uniform(values=[0, 1, 2])
    if choice == 0:
        grey = fn.color_space_conversion(images, image_type=types.RGB, output_type=types.GRAY)
        images = fn.color_space_conversion(grey, image_type=types.GRAY, output_type=types.RGB)
    elif choice == 1:
        images = fn.lookup_table(images, keys=list(range(256)), dtype=types.UINT8,
                                 values=[v if v < SOLARIZE_THRESHOLD else 255 - v for v in range(256)])
    else:
        images = fn.gaussian_blur(images, sigma=fn.random.uniform(range=BLUR_SIGMA))
    images = fn.color_twist(images, brightness=jitter(), contrast=jitter(), saturation=jitter())
    return flipped(images, as_float=True), labels


def open(mode, options):
    # device_id=None: a pipeline without a GPU, on a machine that has one too.
    common = dict(batch_size=options.batch, num_threads=1, device_id=None, seed=1, set_affinity=False)
    if mode == "dali_3aug":
        pipeline = augmented(options.folder, **common)
    else:
        interpolation = types.INTERP_LINEAR if "linear" in mode else types.INTERP_CUBIC
        pipeline = plain(options.folder, interpolation, mode.endswith("float"), **common)
    pipeline.build()
    while True:
        images, _ = pipeline.run()
        yield images
