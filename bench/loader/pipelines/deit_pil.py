"""DeiT's loader: torchvision's ImageFolder over Pillow, timm's random resized crop, torchvision's transforms.

deit_3aug is what DeiT III's recipe builds with --ThreeAugment and without --src (arXiv 2204.07118): crop, flip, one of
grey, solarisation and blur, colour jitter, float, normalised. deit_plain leaves out the third and the fourth.
"""
import random

import torch
from PIL import ImageFilter
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision import transforms
from torchvision.datasets import ImageFolder

from . import BLUR_SIGMA, FLIP, IMAGE_SIZE, JITTER, MEAN, RATIO, SCALE, SOLARIZE_THRESHOLD, STD


class PillowBlur:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*BLUR_SIGMA)))


def three_augment():
    return transforms.RandomChoice([
        transforms.Grayscale(3),
        transforms.RandomSolarize(SOLARIZE_THRESHOLD, p=1.0),
        PillowBlur(),
    ])


def transform(augmented):
    steps = [
        RandomResizedCropAndInterpolation(IMAGE_SIZE, scale=SCALE, ratio=RATIO, interpolation="bicubic"),
        transforms.RandomHorizontalFlip(FLIP),
    ]
    if augmented:
        steps += [three_augment(), transforms.ColorJitter(JITTER, JITTER, JITTER)]
    return transforms.Compose(steps + [transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def open(mode, options):
    dataset = ImageFolder(options.folder, transform=transform(augmented=mode.startswith("deit_3aug")))
    loader = torch.utils.data.DataLoader(dataset, batch_size=options.batch, shuffle=True, drop_last=True, num_workers=0)
    while True:
        for images, _ in loader:
            yield images
