"""torchvision's own fast path: its JPEG decoder and transforms v2 on uint8 tensors, as its documentation recommends for
speed on a CPU. The decoder's tensors are channels-last in memory, which its uint8 resize has vector code for.
"""
import torch
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from . import BLUR_SIGMA, FLIP, IMAGE_SIZE, JITTER, MEAN, RATIO, SCALE, SOLARIZE_THRESHOLD, STD

BLUR_KERNEL = 9  # two deviations to each side at the largest sigma; Pillow's blur, which DeiT uses, has no such bound


def load(path):
    return decode_jpeg(read_file(path), mode=ImageReadMode.RGB)


def transform(mode):
    steps = [
        v2.RandomResizedCrop(IMAGE_SIZE, scale=SCALE, ratio=RATIO, interpolation=v2.InterpolationMode.BICUBIC,
                             antialias=True),
        v2.RandomHorizontalFlip(FLIP),
    ]
    if mode == "torchvision_3aug":
        steps += [
            v2.RandomChoice([
                v2.Grayscale(3),
                v2.RandomSolarize(SOLARIZE_THRESHOLD, p=1.0),
                v2.GaussianBlur(BLUR_KERNEL, sigma=BLUR_SIGMA),
            ]),
            v2.ColorJitter(JITTER, JITTER, JITTER),
        ]
    if mode != "torchvision_uint8":
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD, inplace=True)]
    return v2.Compose(steps)


def open(mode, options):
    dataset = ImageFolder(options.folder, transform=transform(mode), loader=load)
    loader = torch.utils.data.DataLoader(dataset, batch_size=options.batch, shuffle=True, drop_last=True, num_workers=0)
    while True:
        for images, _ in loader:
            yield images
