"""The augmentations of 8-bit images against Pillow, torchvision and timm given the same parameters: equal to the bit.

Drawn boxes are compared by giving timm and torchvision our random numbers, drawn ops by their distributions.
"""
import itertools
import math
import random
from unittest import mock

import parity
from augment_support import LARGE, KeyedRandom, Pixels, Tool, images, kolmogorov_smirnov, pil
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
import timm.data.auto_augment as timm_augment
import timm.data.random_erasing as timm_erasing
import torch
import torchvision.transforms as transforms
import torchvision.transforms.functional as functional
import torchvision.transforms.transforms as torchvision_transforms

FACTORS = (0.0, 0.1, 0.3, 0.7, 0.85, 0.999, 1.0, 1.001, 1.3, 1.9, 2.5)
SAMPLINGS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FILL = (124, 116, 104)  # three values, to tell the channels apart


def fill_of(image):
    return FILL if image[1].ndim == 3 else FILL[0]


def warp_of(sampling):
    return f"{sampling} {' '.join(map(str, FILL))}"


def test_operations_on_values(tool):
    cases = Pixels(tool)
    for image in images():
        theirs = pil(image)
        cases.add("invert", image, "invert", ImageOps.invert(theirs))
        cases.add("equalize", image, "equalize", ImageOps.equalize(theirs))
        cases.add("autocontrast", image, "autocontrast", ImageOps.autocontrast(theirs))
        for threshold in (0, 1, 77, 128, 255, 256):
            cases.add("solarize", image, f"solarize {threshold}", ImageOps.solarize(theirs, threshold))
        for added in (0, 1, 55, 110, 128):
            cases.add("solarize_add", image, f"solarize_add {added} 128", timm_augment.solarize_add(theirs, added))
        for bits in range(1, 9):
            cases.add("posterize", image, f"posterize {bits}", ImageOps.posterize(theirs, bits))
        # timm asks for 0 bits at magnitude 10, which Pillow 13 refuses; its rule gives black.
        cases.add("posterize", image, "posterize 0", Image.new(theirs.mode, theirs.size, 0))
        grey = transforms.Grayscale(3 if image[1].ndim == 3 else 1)
        cases.add("grayscale", image, "grayscale", grey(theirs))
    return cases.check()


def test_blends(tool):
    cases = Pixels(tool)
    for image, factor in itertools.product(images(), FACTORS):
        theirs = pil(image)
        cases.add("sharpness", image, f"sharpness {factor}", ImageEnhance.Sharpness(theirs).enhance(factor))
        for name, enhance, adjust in (("brightness", ImageEnhance.Brightness, functional.adjust_brightness),
                                      ("contrast", ImageEnhance.Contrast, functional.adjust_contrast),
                                      ("color", ImageEnhance.Color, functional.adjust_saturation)):
            cases.add(name, image, f"{name} {factor}", enhance(theirs).enhance(factor))
            cases.add(name, image, f"{name} {factor}", adjust(theirs, factor))
    return cases.check()


def test_every_byte_at_many_factors(tool):
    cases, generator = Pixels(tool), np.random.default_rng(3)
    ramp = ("ramp", np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2))
    colours = ("colours", generator.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    for factor in (*generator.uniform(0, 2, 300).tolist(), *np.linspace(0, 2, 41).tolist(), 1e-6, 1 - 1e-7, 1 + 1e-7, 300.0, -0.5):
        for name, enhance in (("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast)):
            cases.add(name, ramp, f"{name} {factor!r}", enhance(pil(ramp)).enhance(factor))
        cases.add("color", colours, f"color {factor!r}", ImageEnhance.Color(pil(colours)).enhance(factor))
        cases.add("sharpness", colours, f"sharpness {factor!r}", ImageEnhance.Sharpness(pil(colours)).enhance(factor))
    return cases.check()


def test_blur(tool):
    cases = Pixels(tool)
    sigmas = (0.1, 0.123, 0.3, 0.5, 0.77, 1.0, 1.2, math.sqrt(2), 1.4143, 1.5, 1.73, 1.999, 2.0)
    for image in images():
        for sigma in sigmas if image[1].shape[0] < 224 else sigmas[::3]:
            cases.add("blur", image, f"blur {sigma!r}", pil(image).filter(ImageFilter.GaussianBlur(sigma)))
    photograph = next(image for image in images() if image[0] == "33x65 noise")
    for sigma in (0.0, *np.random.default_rng(4).uniform(0.1, 2, 300).tolist(), 2.5, 4.0, 11.0, 40.0):
        cases.add("blur", photograph, f"blur {sigma!r}", pil(photograph).filter(ImageFilter.GaussianBlur(sigma)))
    return cases.check()


GEOMETRIC = {"shear_x": timm_augment.shear_x, "shear_y": timm_augment.shear_y,
             "translate_x": timm_augment.translate_x_rel, "translate_y": timm_augment.translate_y_rel,
             "rotate": timm_augment.rotate}


def add_geometric(cases, image, name, amount):
    for sampling, resample in SAMPLINGS.items():
        theirs = GEOMETRIC[name](pil(image), amount, resample=resample, fillcolor=fill_of(image))
        cases.add(name, image, f"{name} {amount!r} {warp_of(sampling)}", theirs)


def test_geometric_operations(tool):
    cases = Pixels(tool)
    shears, shares = (0.0, 0.01, -0.3, 0.27, 1.5, -4.0), (0.0, 0.5, -0.25, 0.45, -0.405, 1 / 224, 1.0, -1.2)
    angles = (0.0, 0.01, 15.0, -30.0, 27.0, 89.9, 90.0, 180.0, -90.0, 270.0, 360.0, -725.5, 120.0)
    amounts = dict(shear_x=shears, shear_y=shears, translate_x=shares, translate_y=shares, rotate=angles)
    for image in images():
        for name, values in amounts.items():
            for amount in values if image[1].shape[0] < 224 else values[1:5]:
                add_geometric(cases, image, name, amount)
    return cases.check()


def test_geometric_operations_at_random_amounts(tool):
    """What rounding of coordinates, matrix and pixels may do shows in large numbers."""
    cases, generator = Pixels(tool), np.random.default_rng(5)
    chosen = [image for image in images() if image[0] in ("224x224 photograph", "33x65 noise", "33x65 two values, luma")]
    for image in chosen:
        for _ in range(8 if image[1].shape[0] >= 224 else 60):
            for name, most in zip(GEOMETRIC, (0.3, 0.3, 0.45, 0.45, 30)):
                add_geometric(cases, image, name, float(generator.uniform(-most, most)))
    return cases.check()


OPS = timm_augment.rand_augment_transform("rand-m9-inc1", {}).ops
NAMES = [op.name for op in OPS]  # in the order of our RandOp
MAGNITUDES = (0.0, 0.31, 1.0, 2.5, 5.0, 7.49, 8.5, 9.0, 9.4999, 9.99, 10.0, 11.7, 20.0)
SIGNS = {0: 0.4, 1: 0.6}  # what random.random() must give for timm's _randomly_negate


def argument_of(name, magnitude, negative):
    with mock.patch.object(timm_augment.random, "random", lambda: SIGNS[negative]):
        level = timm_augment.LEVEL_TO_ARG[name]
        return level(magnitude, {}) if level else ()


def test_rand_augment_has_timms_levels(tool):
    cases = list(itertools.product(range(len(NAMES)), (*MAGNITUDES, *np.random.default_rng(6).uniform(0, 12, 200).tolist()), SIGNS))
    lines = tool.values([f"argument_of_op {op} {magnitude!r} {negative}" for op, magnitude, negative in cases])
    for (op, magnitude, negative), line in zip(cases, lines):
        theirs = (argument_of(NAMES[op], magnitude, negative) or (0,))[0]
        assert float(line) == theirs, f"{NAMES[op]} at {magnitude}: {line}, timm has {theirs}"
    return f"{len(cases)} arguments of {len(NAMES)} ops equal"


def test_rand_augment_ops_are_timms(tool):
    cases = Pixels(tool)
    kinds = ("photograph", "noise", "77")
    for image, (index, name) in itertools.product(images(LARGE[:1], kinds), enumerate(NAMES)):
        for magnitude, negative, sampling in itertools.product(MAGNITUDES, SIGNS, SAMPLINGS):
            large = image[1].shape[0] >= 224
            if large and magnitude not in (0.31, 5.0, 9.4999, 11.7):
                continue
            line = f"rand_op {index} {magnitude!r} {negative} {warp_of(sampling)}"
            arguments = argument_of(name, magnitude, negative)
            if name == "PosterizeIncreasing" and arguments[0] < 1:
                theirs = Image.new(pil(image).mode, pil(image).size, 0)  # see test_operations_on_values
            else:
                theirs = timm_augment.NAME_TO_OP[name](pil(image), *arguments, resample=SAMPLINGS[sampling],
                                                       fillcolor=fill_of(image))
            cases.add(name, image, line, theirs)
    return cases.check()


def test_rand_augment_strings_are_read_as_timm_reads_them(tool):
    texts = ["rand-m9-mstd0.5-inc1", "rand-inc1", "rand-m5-n3-inc1", "rand-inc1-mstd0.5-m9-p0.25", "rand-m7-mmax7-inc1",
             "rand-m15-mmax30-mstd1-n1-inc1", "rand-mmax0-inc1", "rand-mstd101-m8-inc1", "rand-mstd100-m8-inc1", "rand-m0-inc2"]
    for text, line in zip(texts, tool.values([f"parse_rand_augment {text}" for text in texts])):
        theirs = timm_augment.rand_augment_transform(text, {"img_mean": FILL})
        assert [op.name for op in theirs.ops] == NAMES, text
        op = theirs.ops[0]
        expected = [op.magnitude, op.magnitude_std, op.magnitude_max or timm_augment._LEVEL_DENOM, op.prob, theirs.num_layers]
        assert list(map(float, line.split())) == expected, f"{text}: {line}, timm has {expected}"
    return f"{len(texts)} strings"


def test_rand_augment_draws_as_timm_does(tool):
    count, worst = 20000, 0.0
    random.seed(1)
    np.random.seed(1)
    for text in ("rand-m9-mstd0.5-inc1", "rand-m6-mstd101-n3-p0.8-inc1"):
        theirs = {name: [] for name in NAMES}
        policy = timm_augment.rand_augment_transform(text, {"img_mean": FILL})
        for op in policy.ops:
            op.aug_fn = lambda image, *arguments, name=op.name, **_: theirs[name].append((*arguments, 0)[0])
        for _ in range(count):
            policy(None)
        words = tool.values([f"draw_rand_augment {text} {count}"])[0].split()
        ours = {name: [] for name in NAMES}
        for op, argument in zip(words[::2], words[1::2]):
            ours[NAMES[int(op)]].append(float(argument))
        for name in NAMES:
            a, b = len(ours[name]), len(theirs[name])
            assert abs(a - b) < 4.5 * (a + b) ** 0.5, f"{text}: {name} comes {a} times, timm's {b} times"
            found = kolmogorov_smirnov(ours[name], theirs[name])
            assert found < 1, f"{text}: arguments of {name} are distributed differently ({found:.2f} of the limit)"
            worst = max(worst, found)
    return f"largest distance of distributions {worst:.2f} of the limit"


def test_three_augment_is_deit3s(tool):
    cases, generator = Pixels(tool), np.random.default_rng(8)
    for image in images():
        theirs = pil(image)
        grey = transforms.Grayscale(3 if image[1].ndim == 3 else 1)
        cases.add("3-Augment", image, "three_augment 0 0.5", grey(theirs))
        cases.add("3-Augment", image, "three_augment 1 0.5", ImageOps.solarize(theirs))
        for sigma in generator.uniform(0.1, 2, 3).tolist():
            cases.add("3-Augment", image, f"three_augment 2 {sigma!r}", theirs.filter(ImageFilter.GaussianBlur(sigma)))
    return cases.check()


def test_color_jitter_is_torchvisions(tool):
    cases, generator = Pixels(tool), np.random.default_rng(9)
    for image, order in itertools.product(images(), itertools.permutations(range(3))):
        for factors in (generator.uniform(0.7, 1.3, 3), generator.uniform(0, 2, 3), (1.0, 1.2, 0.6), (0.9, 1.0, 1.0)):
            drawn = (torch.tensor([3, *order]), *map(float, factors), None)  # 3: hue, which is off
            with mock.patch.object(transforms.ColorJitter, "get_params", lambda *_: drawn):
                theirs = transforms.ColorJitter(0.3, 0.3, 0.3)(pil(image))
            steps = " ".join(f"{kind} {float(factors[kind])!r}" for kind in order)
            cases.add("jitter", image, f"jitter {steps}", theirs)
    return cases.check()


def test_crops_and_flips(tool):
    cases, generator = Pixels(tool), np.random.default_rng(10)
    for image in images():
        theirs, (height, width) = pil(image), image[1].shape[:2]
        cases.add("flip", image, "flip", functional.hflip(theirs))
        reach = min(4, height - 1, width - 1)
        for _ in range(4):
            h, w = generator.integers(1, height + 1), generator.integers(1, width + 1)
            top, left = generator.integers(-reach, height + reach - h + 1), generator.integers(-reach, width + reach - w + 1)
            for mode in ("reflect", "constant"):
                padded = functional.pad(theirs, reach, padding_mode=mode) if reach else theirs
                window = functional.crop(padded, top + reach, left + reach, h, w)
                cases.add("crop", image, f"crop {mode} {top} {left} {h} {w}", window)
    return cases.check()


class TorchInDoubles:
    """What RandomResizedCrop.get_params calls of torch, with our random numbers and in double precision."""

    def __init__(self, random_numbers):
        self.numbers = random_numbers

    def tensor(self, values):
        return values

    def log(self, values):
        return [math.log(value) for value in values]

    def exp(self, value):
        return mock.Mock(item=lambda: math.exp(value.item()))

    def empty(self, _):
        def uniform_(low, high):
            value = self.numbers.uniform(low, high)
            return mock.Mock(item=lambda: value)
        return mock.Mock(uniform_=uniform_)

    def randint(self, low, high, size):
        value = self.numbers.randint(low, high - 1)
        return mock.Mock(item=lambda: value)


def test_random_resized_crops_are_torchvisions(tool):
    sizes = ((224, 224), (375, 500), (500, 375), (28, 28), (40, 900), (900, 40), (1, 1), (3, 2), (7, 100))
    ranges = ((0.08, 1.0, 3 / 4, 4 / 3), (0.9, 1.0, 0.99, 1.01), (0.05, 0.2, 0.3, 5.0))
    cases = [(stream, *case) for case in itertools.product(sizes, ranges) for stream in range(40)]
    lines = tool.values([f"random_resized_crop {stream} {size[0]} {size[1]} {' '.join(map(repr, bounds))}"
                         for stream, size, bounds in cases])
    for (stream, size, bounds), line in zip(cases, lines):
        with mock.patch.object(torchvision_transforms, "torch", TorchInDoubles(KeyedRandom(stream))), \
                mock.patch.object(torchvision_transforms.F, "get_dimensions", lambda shape: (3, *shape)):
            theirs = transforms.RandomResizedCrop.get_params(size, bounds[:2], bounds[2:])
        assert tuple(map(int, line.split())) == theirs, f"{size}, {bounds}, {stream}: {line}, torchvision has {theirs}"
    return f"{len(cases)} crops"


def test_random_erasing_boxes_are_timms(tool):
    sizes, configs = ((224, 224), (32, 64), (300, 20), (1, 1), (5, 4)), (
        (0.25, 0.02, 1 / 3, 0.3, 1, 1), (1.0, 0.02, 1 / 3, 0.3, 1, 1), (0.9, 0.05, 0.9, 0.1, 1, 4), (1.0, 0.3, 1.0, 0.5, 3, 3))
    cases = [(stream, *case) for case in itertools.product(sizes, configs) for stream in range(60)]
    lines = tool.values([f"erasing {stream} {size[0]} {size[1]} {' '.join(map(repr, config))}"
                         for stream, size, config in cases])
    boxes = 0
    for (stream, size, config), line in zip(cases, lines):
        probability, low, high, aspect, least, most = config
        numbers, theirs = KeyedRandom(stream), []

        class Canvas:
            def __setitem__(self, where, noise):
                theirs.extend((where[1].start, where[2].start, where[1].stop - where[1].start,
                               where[2].stop - where[2].start, noise))

        erasing = timm_erasing.RandomErasing(probability, low, high, aspect, mode="pixel", min_count=least, max_count=most)
        with mock.patch.object(timm_erasing, "random", numbers), \
                mock.patch.object(timm_erasing, "_get_pixels", lambda *_, **__: numbers.next_u64()):
            erasing._erase(Canvas(), 3, *size, torch.float32)
        assert list(map(int, line.split())) == theirs, f"{size}, {config}, {stream}: {line}, timm has {theirs}"
        boxes += len(theirs) // 5
    return f"{len(cases)} images, {boxes} boxes"


def test_erased_is_normal_noise_inside_and_nothing_outside(tool):
    shape, normal = (3, 150, 200), torch.distributions.Normal(0.0, 1.0)
    for mode, (top, left, height, width) in itertools.product(("const", "pixel"), ((0, 0, 150, 200), (10, 33, 101, 77), (5, 5, 0, 3))):
        line, = tool.values([f"erased 12345 {mode} {' '.join(map(str, (*shape, top, left, height, width)))}"])
        image = torch.tensor(list(map(float, line.split())), dtype=torch.float64).reshape(shape)
        box = image[:, top:top + height, left:left + width].clone()
        image[:, top:top + height, left:left + width] = 1.5
        assert (image == 1.5).all(), f"{mode}: changed outside of the box"
        if mode == "const":
            assert (box == 0).all()
        elif box.numel():
            count = box.numel()
            expected = normal.icdf((torch.arange(count) + 0.5) / count)
            assert kolmogorov_smirnov(box.flatten(), expected) < 1, "noise is not standard normal"
            for shift in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2), (0, 0, 4)):
                correlation = (box * torch.roll(box, shift, (0, 1, 2))).mean().item()
                assert abs(correlation) < 4.5 / count ** 0.5, f"neighbours {shift} correlate: {correlation}"
    return "boxes of zeros and of noise"


if __name__ == "__main__":
    parity.main([test_operations_on_values, test_blends, test_every_byte_at_many_factors, test_blur, test_geometric_operations,
                 test_geometric_operations_at_random_amounts, test_rand_augment_has_timms_levels, test_rand_augment_ops_are_timms,
                 test_rand_augment_strings_are_read_as_timm_reads_them, test_rand_augment_draws_as_timm_does,
                 test_three_augment_is_deit3s, test_color_jitter_is_torchvisions, test_crops_and_flips,
                 test_random_resized_crops_are_torchvisions, test_random_erasing_boxes_are_timms,
                 test_erased_is_normal_noise_inside_and_nothing_outside], Tool)
