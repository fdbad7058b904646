"""What the parity scripts share: models of timm with redrawn weights, calls of our tools, comparisons.

Each script takes the path of its tool. Everything missing ends it with a remedy and a non-zero status.
"""
import pathlib
import subprocess
import sys
import tempfile

try:
    import safetensors.torch
    import timm
    import torch
except ImportError as error:
    sys.exit(f"{error}. Parity tests need torch, timm 1.0.31 and safetensors: run scripts/test, or "
             "configure with -DCOSUB_PYTHON=PATH of a Python that has them.")

torch.set_num_threads(1)

# key -> (timm name, timm keyword arguments); what is no size or count goes to our tools as --arch
VIT = dict(patch_size=4, embed_dim=24, depth=3, num_heads=3)
NARROW = dict(channels=(8, 12, 16, 20), stem_type="deep", stem_width=4)
REGNET = dict(w0=16, wa=8.0, wm=1.8, group_size=8, depth=8, stem_width=8)
MODELS = {
    "deit3": ("deit3_small_patch16_224", dict(img_size=20, num_classes=7, in_chans=1, **VIT)),
    "vit": ("vit_tiny_patch16_224", dict(img_size=16, num_classes=5, in_chans=3, mlp_ratio=3.0, **VIT)),
    "resnet_basic": ("resnet18", dict(num_classes=6, in_chans=1, layers=(2, 1, 2, 1), **NARROW)),
    "resnet_tiered": ("resnet18", dict(num_classes=6, in_chans=3, layers=(1, 1, 1, 1),
                                       **{**NARROW, "stem_type": "deep_tiered"})),
    "resnet_bottleneck": ("resnet50", dict(num_classes=9, in_chans=3, layers=(1, 2, 1, 1), channels=(8, 12, 16, 20))),
    "regnety": ("regnety_002", dict(num_classes=5, in_chans=3, **REGNET)),
    "regnety_grey": ("regnety_016", dict(num_classes=8, in_chans=1, **{**REGNET, "wa": 12.0, "se_ratio": 0.5})),
    "pit": ("pit_s_224", dict(img_size=32, num_classes=6, in_chans=3, patch_size=8, stride=4, base_dims=(6, 6, 6),
                              depth=(1, 2, 1), heads=(2, 4, 4))),
    "pit_grey": ("pit_ti_224", dict(img_size=30, num_classes=4, in_chans=1, patch_size=7, stride=3,
                                    base_dims=(8, 8, 8), depth=(2, 1, 1), heads=(1, 2, 4), mlp_ratio=2.0)),
    "xcit": ("xcit_tiny_12_p8_224", dict(img_size=32, num_classes=7, in_chans=3, embed_dim=24, depth=2, num_heads=3)),
    "xcit_p16": ("xcit_nano_12_p16_224", dict(img_size=48, num_classes=5, in_chans=1, embed_dim=16, depth=2,
                                              num_heads=2)),
    "swin": ("swin_tiny_patch4_window7_224", dict(img_size=60, num_classes=5, in_chans=3, embed_dim=12, window_size=4,
                                                  depths=(2, 2, 2), num_heads=(1, 2, 4))),
    "swin_exact": ("swin_base_patch4_window12_384", dict(img_size=32, num_classes=9, in_chans=1, embed_dim=8,
                                                         patch_size=2, window_size=4, depths=(2, 3),
                                                         num_heads=(2, 4))),
    "convnext": ("convnext_tiny", dict(num_classes=6, in_chans=3, depths=(1, 2, 1, 1), dims=(8, 12, 16, 24))),
    "convnext_conv": ("convnext_atto", dict(num_classes=4, in_chans=1, depths=(1, 1, 2, 1), dims=(6, 8, 12, 16),
                                            patch_size=2)),
}
# Published members of every family: one at another image size, one with another class count.
PUBLISHED = {
    name: (name, dict(dict(num_classes=1000, in_chans=3), **kwargs)) for name, kwargs in (
        ("vit_tiny_patch16_224", dict(img_size=160)), ("deit3_small_patch16_224", dict(num_classes=21)),
        ("resnet18", dict(size=160)), ("resnet26", dict(num_classes=3)),
        ("regnety_002", dict(size=192)), ("regnety_004", dict(num_classes=12)),
        ("pit_ti_224", dict(img_size=192)), ("pit_s_224", dict(num_classes=5)),
        ("xcit_nano_12_p16_224", dict(img_size=160)), ("xcit_tiny_12_p8_224", dict(num_classes=9, img_size=96)),
        ("swin_tiny_patch4_window7_224", dict(img_size=256)), ("swin_small_patch4_window7_224", dict(num_classes=7)),
        ("convnext_atto", dict(size=160)), ("convnext_tiny", dict(num_classes=11)))
}
NO_ARCH = ("img_size", "num_classes", "in_chans", "size")


def arch_arguments(kwargs):
    arguments = []
    for key, value in kwargs.items():
        if key not in NO_ARCH:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            arguments += ["--arch", f"{key}={text}"]
    return arguments


def redraw(model, generator):
    """Every parameter and buffer at a scale where a mistake shows (norms and LayerScale start as 1 and 1e-6)."""
    norms = {name for name, module in model.named_modules()
             if isinstance(module, (torch.nn.LayerNorm, torch.nn.BatchNorm2d))}

    def uniform(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            owner = name.rpartition(".")[0]
            if name.endswith("running_mean"):
                uniform(tensor, -0.5, 0.5)
            elif name.endswith("running_var"):
                uniform(tensor, 0.5, 2.0)
            elif name.endswith("num_batches_tracked"):
                tensor.fill_(17)
            elif "gamma" in name or name.endswith("temperature") or (owner in norms and name.endswith("weight")):
                uniform(tensor, 0.5, 1.5)
            elif name in ("pos_embed", "cls_token") or name.endswith("relative_position_bias_table"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
            elif tensor.ndim > 1:
                fan_in = tensor[0].numel()
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2.0 / fan_in) ** 0.5)
            else:
                uniform(tensor, -0.5, 0.5)


def make(key, seed=0):
    """A timm model of MODELS or PUBLISHED with redrawn weights (float32 values), and the name arguments of our tools."""
    name, kwargs = (MODELS if key in MODELS else PUBLISHED)[key]
    model = timm.create_model(name, **{option: value for option, value in kwargs.items() if option != "size"})
    redraw(model, torch.Generator().manual_seed(seed))
    return model, [name, *arch_arguments(kwargs)], kwargs


class Tool:
    """model_tool on tensors in memory."""

    def __init__(self, program):
        self.program = program
        self.folder = tempfile.TemporaryDirectory(prefix="cosub-parity-")
        self.calls = 0

    def path(self, name):
        return str(pathlib.Path(self.folder.name) / f"{name}-{self.calls}.safetensors")

    def __call__(self, command, arguments, weights, tensors, expect=0):
        self.calls += 1
        save(weights, self.path("weights"))
        save(tensors, self.path("input"))
        done = subprocess.run([self.program, command, *arguments, "--weights", self.path("weights"),
                               "--input", self.path("input"), "--output", self.path("output")],
                              capture_output=True, text=True)
        assert done.returncode == expect, f"{command} {arguments}: exit {done.returncode}\n{done.stderr}"
        return safetensors.torch.load_file(self.path("output")) if expect == 0 else done.stderr


def save(tensors, path):
    safetensors.torch.save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)


def difference(ours, theirs):
    """Norm of the difference over the norm of the reference."""
    theirs = theirs.detach().double()
    distance, norm = (ours.double() - theirs).norm().item(), theirs.norm().item()
    return distance / norm if norm > 0.0 else distance


def check_close(what, ours, theirs, limit):
    assert ours.shape == theirs.shape, f"{what}: shape {tuple(ours.shape)}, timm has {tuple(theirs.shape)}"
    found = difference(ours, theirs)
    assert found <= limit, f"{what}: differs by {found:.3g}, limit {limit:.3g}"
    return found


def main(tests, make_tool=Tool):
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} PATH_OF_TOOL")
    tool = make_tool(sys.argv[1])
    for test in tests:
        print(f"{test.__name__}: {test(tool)}", flush=True)
