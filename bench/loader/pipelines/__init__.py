"""The peers' pipelines, a module each. Every module has open(mode, options), which returns an endless iterator of
batches of options.batch images (drop the rest of an epoch, go on with the next, shuffled). What a batch is, is the
peer's own type; peers.py counts with len() and reads values through numpy.
"""
IMAGE_SIZE = 224
SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
FLIP = 0.5
JITTER = 0.3
SOLARIZE_THRESHOLD = 128
BLUR_SIGMA = (0.1, 2.0)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
