"""What a training image costs in each method, in multiply-adds, and how many images make the methods cost the same.

Counted is what cosub model info counts: convolutions and matrix products. Forward, for one image:

    plain               stem + sum of (branch + projection) + classifier
    stochastic depth    stem + sum of (K/B * branch + projection) + classifier
    cosub               stem + 2 * (sum of (K/B * branch + projection) + classifier)

over the blocks; K of the B rows of a microbatch go through a branch, K = max(1, floor((1 - d) B + 0.5)); a projecting
shortcut (the first block of stages 2 to 4) runs on all rows; cosub computes the stem once for both views. The backward pass
costs twice the forward pass in all three, so a training image costs three times as much and the ratios stay.
"""
import json
import math
import subprocess

LAYERS = ("layer1", "layer2", "layer3", "layer4")


def model_info(program, model):
    arch = [f"{key}={','.join(map(str, value)) if isinstance(value, list) else value}"
            for key, value in model["arch"].items()]
    command = [program, "model", "info", model["name"], "--json", "--classes", model["classes"], "--channels",
               model["channels"], "--image-size", model["image_size"], "--arch", *arch]
    return json.loads(subprocess.run([str(word) for word in command], check=True, capture_output=True).stdout)


def numel(shape):
    return math.prod(shape)


def parts(info, image_size):
    """Multiply-adds of the stem, of all branches, of all projections and of the classifier of a ResNet."""
    halved = lambda side: (side + 1) // 2  # by a 3x3 convolution or pool with stride 2 and padding 1
    stem_side = halved(image_size)
    sides = {"layer1": halved(stem_side)}
    for before, after in zip(LAYERS, LAYERS[1:]):
        sides[after] = halved(sides[before])
    cost = {"stem": 0, "branches": 0, "projections": 0, "classifier": 0}
    for name, shape in info["tensors"].items():
        layer = name.split(".")[0]
        if name == "fc.weight":
            cost["classifier"] += numel(shape)
        elif len(shape) == 4 and layer in sides:
            cost["projections" if "downsample" in name else "branches"] += numel(shape) * sides[layer] ** 2
        elif len(shape) == 4:
            cost["stem"] += numel(shape) * stem_side ** 2
    if sum(cost.values()) != info["multiply_adds"]:
        raise SystemExit(f"error: the parts of the model add up to {sum(cost.values())} multiply-adds, "
                         f"but cosub model info measures {info['multiply_adds']}")
    return cost


def kept_share(drop_rate, micro):
    return max(1, math.floor((1 - drop_rate) * micro + 0.5)) / micro


def forward(cost, share, views):
    """Multiply-adds of one training image, forward, where `share` of the rows go through each branch."""
    return cost["stem"] + views * (share * cost["branches"] + cost["projections"] + cost["classifier"])
