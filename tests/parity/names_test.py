"""Every name: tensors, parameter counts, weight decay and layers for layer-wise decay, and initial values, against timm.

The table of timm's numbers is made here, by running timm (on torch's meta device where values do not matter).
"""
import json
import subprocess

import parity
import safetensors.torch
import timm
import timm.optim
import torch


def call(tool, *arguments):
    done = subprocess.run([tool.program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stderr}"
    return done.stdout


def names(tool):
    return [(entry["name"], entry["family"]) for entry in json.loads(call(tool, "list", "--json"))]


def info(tool, name, *arguments):
    return json.loads(call(tool, "info", name, "--json", "--no-cost", *arguments))


def on_meta(name, **kwargs):
    with torch.device("meta"):
        return timm.create_model(name, **kwargs)


def test_tensors_of_every_name_are_timms(tool):
    parameters = 0
    for name, _ in names(tool):
        ours, theirs = info(tool, name), on_meta(name)
        shapes = {key: list(tensor.shape) for key, tensor in theirs.state_dict().items()}
        assert ours["tensors"] == shapes, f"{name}: {set(ours['tensors'].items()) ^ set(shapes.items())}"
        count = sum(parameter.numel() for parameter in theirs.parameters())
        assert ours["parameters"] == count, f"{name}: {ours['parameters']} parameters, timm has {count}"
        parameters += count
    return f"{len(names(tool))} models, {parameters / 1e9:.2f} G parameters"


def test_another_size_count_and_colour(tool):
    sizes = {"ViT": 448, "PiT": 200, "XCiT": 256, "Swin": 288}
    for name, family in names(tool):
        if not any(part in name for part in ("tiny", "nano", "_ti_", "resnet18", "regnety_002", "small_patch16")):
            continue
        kwargs = dict(num_classes=11, in_chans=1)
        arguments = ["--classes", "11", "--channels", "1"]
        if family in sizes:
            kwargs["img_size"] = sizes[family]
            arguments += ["--image-size", str(sizes[family])]
        theirs = {key: list(tensor.shape) for key, tensor in on_meta(name, **kwargs).state_dict().items()}
        assert info(tool, name, *arguments)["tensors"] == theirs, name
    return "same tensors"


def one_of_each_family(tool):
    small = ("deit3_small_patch16_224", "resnet26", "regnety_004", "pit_xs_224", "xcit_nano_12_p8_224",
             "swin_tiny_patch4_window7_224", "convnext_atto")
    return [(name, family) for name, family in names(tool) if name in small]


def test_weight_decay_and_layers_are_timms(tool):
    for name, family in one_of_each_family(tool):
        model, ours = on_meta(name), info(tool, name)
        listed = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
        by_id = {id(parameter): key for key, parameter in model.named_parameters()}
        groups = timm.optim.param_groups_weight_decay(model, 0.1, no_weight_decay_list=listed)
        theirs = {by_id[id(p)] for group in groups if group["weight_decay"] > 0 for p in group["params"]}
        decayed = {key for key, shape in ours["tensors"].items()
                   if key in ours["layers"] and len(shape) > 1 and not key.endswith(".bias")
                   and key not in ours["no_weight_decay"]}
        assert decayed == theirs, f"{name}: weight decay differs for {decayed ^ theirs}"
        if not hasattr(model, "group_matcher"):
            assert family == "PiT", f"{name}: timm has no layers of its own"
            continue
        layers = timm.models.group_parameters(model, model.group_matcher(coarse=False), reverse=True)
        assert ours["layers"] == layers, f"{name}: {set(ours['layers'].items()) ^ set(layers.items())}"
    return f"{len(one_of_each_family(tool))} models (layers of PiT are our rule: timm has none)"


def test_initial_values_are_spread_as_timms(tool):
    checked = 0
    for name, _ in one_of_each_family(tool):
        tool.calls += 1
        call(tool, "init", name, "--stream", "3", "--output", tool.path("init"))
        ours = safetensors.torch.load_file(tool.path("init"))
        for key, theirs in timm.create_model(name).state_dict().items():
            mine, theirs, count = ours[key].double(), theirs.double(), theirs.numel()
            if count == 1 or theirs.std() == 0:
                assert torch.equal(mine, theirs), f"{name}: {key} is {mine.flatten()[:3]}, timm's {theirs.flatten()[:3]}"
                continue
            theirs = theirs[theirs.abs() <= 8 * mine.std()]  # torch's trunc_normal_ rarely returns its bound, +-2
            std, limit = theirs.std(), 6 / count ** 0.5  # of two samples' difference, in standard deviations: 4.2
            assert abs(mine.mean() - theirs.mean()) < limit * std, f"{name}: {key}: mean {mine.mean()}, {theirs.mean()}"
            assert abs(mine.std() / std - 1) < limit, f"{name}: {key}: spread {mine.std()}, timm's {std}"
            checked += 1
    return f"{checked} tensors drawn at random, the others equal"


if __name__ == "__main__":
    parity.main([test_tensors_of_every_name_are_timms, test_another_size_count_and_colour,
                 test_weight_decay_and_layers_are_timms, test_initial_values_are_spread_as_timms])
