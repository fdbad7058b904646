"""Logits and names in eval mode against timm, with every parameter and buffer redrawn."""
import tempfile

import parity
import timm
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from timm.models import swin_transformer


def images(kwargs, count=3, default=40):
    size = kwargs.get("img_size", kwargs.get("size", default))
    return torch.randn(count, kwargs["in_chans"], size, size, generator=torch.Generator().manual_seed(1))


def forward(tool, key, double, *extra):
    model, arguments, kwargs = parity.make(key)
    weights, x = model.state_dict(), images(kwargs)
    if double:
        arguments, model, x = [*arguments, "--float64"], model.double(), x.double()
    result = tool("forward", [*arguments, *extra], weights, {"input": x})
    return result, model.eval(), x


def test_logits_and_features_equal_timm(tool):
    worst = {}
    for key in parity.MODELS:
        for double, limit in ((False, 1e-5), (True, 1e-10)):
            result, model, x = forward(tool, key, double)
            with torch.no_grad():
                logits = model(x)
                features = model.forward_head(model.forward_features(x), pre_logits=True)
            found = max(parity.check_close(f"{key} logits", result["logits"], logits, limit),
                        parity.check_close(f"{key} features", result["features"], features, limit))
            worst[double] = max(worst.get(double, 0.0), found)
    return f"largest difference {worst[False]:.2g} (float32), {worst[True]:.2g} (float64)"


def test_published_models_equal_timm(tool):
    worst = {False: 0.0, True: 0.0}
    for key in parity.PUBLISHED:
        model, arguments, kwargs = parity.make(key)
        weights, x = model.state_dict(), images(kwargs, count=1, default=224)
        for double, limit in ((False, 1e-5), (True, 1e-10)):
            extra = ["--float64"] if double else []
            logits = tool("forward", [*arguments, *extra], weights, {"input": x})["logits"]
            model = model.double() if double else model
            with torch.no_grad():
                found = parity.check_close(key, logits, model.eval()(x.double() if double else x), limit)
            worst[double] = max(worst[double], found)
    return f"{len(parity.PUBLISHED)} models, largest difference {worst[False]:.2g} (float32), {worst[True]:.2g} (float64)"


def test_weights_of_another_image_size_are_resampled_as_timm_does(tool):
    """timm's own loading code for ViT and Swin; for PiT, which timm cannot resample, F.interpolate."""
    worst = {}
    for key, size in (("deit3", 28), ("vit", 32), ("swin", 36), ("swin_exact", 12), ("pit", 44), ("pit_grey", 24)):
        small, arguments, kwargs = parity.make(key)
        weights, kwargs = small.state_dict(), {**kwargs, "img_size": size}
        large = timm.create_model(parity.MODELS[key][0], **kwargs).eval()
        if key.startswith("swin"):
            state = swin_transformer.checkpoint_filter_fn(dict(weights), large)
        else:
            state = dict(weights)
            state["pos_embed"] = (
                F.interpolate(weights["pos_embed"], large.pos_embed.shape[2:], mode="bicubic", antialias=True)
                if key.startswith("pit") else
                resample_abs_pos_embed(weights["pos_embed"], large.patch_embed.grid_size,
                                       num_prefix_tokens=0 if large.no_embed_class else 1))
        large.load_state_dict(state)
        assert any(not torch.equal(state[name], weights[name]) for name in weights), f"{key}: nothing to resample"
        x = images(kwargs)
        with torch.no_grad():
            logits = tool("forward", arguments, weights, {"input": x})["logits"]
            worst[key] = parity.check_close(f"{key} at {size}", logits, large(x), 1e-5)
    return f"largest difference {max(worst.values()):.2g}"


def test_names_are_timms(tool):
    """Loading is strict: a tensor more, a tensor less or another name is refused and named."""
    for key in parity.MODELS:
        model, arguments, kwargs = parity.make(key)
        state, tensors = model.state_dict(), {"input": images(kwargs)}
        victim = next(name for name in state
                      if name.endswith(("norm2.weight", "bn2.running_var", "conv2.bn.running_var", "conv_dw.bias")))
        less = {name: tensor for name, tensor in state.items() if name != victim}
        assert f"{victim}: missing" in tool("forward", arguments, less, tensors, expect=78)
        renamed = {**less, victim + "x": state[victim]}
        message = tool("forward", arguments, renamed, tensors, expect=78)
        assert f"{victim}: missing. Did you mean '{victim}x'?" in message, message
        assert f"{victim}x: not a tensor of this model" in message, message
    return f"{len(parity.MODELS)} models"


def test_swapping_two_blocks_is_noticed(tool):
    """Two blocks of one shape in every family."""
    for key, first, second in (("deit3", "blocks.0.", "blocks.2."), ("resnet_basic", "layer1.0.", "layer1.1."),
                               ("regnety", "s3.b2.", "s3.b3."), ("pit", "transformers.1.blocks.0.", "transformers.1.blocks.1."),
                               ("xcit", "blocks.0.", "blocks.1."), ("swin", "layers.1.blocks.0.", "layers.1.blocks.1."),
                               ("convnext", "stages.1.blocks.0.", "stages.1.blocks.1.")):
        model, arguments, kwargs = parity.make(key)
        state, x = model.state_dict(), images(kwargs)
        swapped = dict(state)
        for name, tensor in state.items():
            if name.startswith(first):
                other = second + name[len(first):]
                swapped[name], swapped[other] = state[other], tensor
        assert any(not torch.equal(swapped[name], state[name]) for name in state), key
        logits = tool("forward", arguments, swapped, {"input": x})["logits"]
        with torch.no_grad():
            found = parity.difference(logits, model.eval()(x))
        assert found > 1e-3, f"{key}: swapped blocks change the logits by only {found:.3g}"
    return "yes"


def test_timm_loads_the_folder_that_our_config_describes(tool):
    for key in parity.MODELS:
        model, arguments, kwargs = parity.make(key)
        weights, x = model.state_dict(), images(kwargs)
        with tempfile.TemporaryDirectory(prefix="cosub-parity-") as folder:
            config = f"{folder}/config.json"
            logits = tool("forward", [*arguments, "--timm-config", config], weights, {"input": x})["logits"]
            parity.save(weights, f"{folder}/model.safetensors")
            loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
            again = tool("forward", ["--config", config], weights, {"input": x})["logits"]
        state = loaded.state_dict()
        assert set(state) == set(weights) and all(torch.equal(state[name], weights[name]) for name in weights), key
        with torch.no_grad():
            parity.check_close(f"{key} from its folder", logits, loaded(x), 1e-5)
        assert torch.equal(logits, again), f"{key}: --config builds another model than the name"
    return f"{len(parity.MODELS)} models"


def test_named_submodels_leave_blocks_out(tool):
    result, model, x = forward(tool, "deit3", True, "--keep", "0,2")
    model.blocks[1] = torch.nn.Identity()
    vit = parity.check_close("deit3 without block 1", result["logits"], model(x), 1e-10)
    result, model, x = forward(tool, "resnet_basic", True, "--keep", "odd")
    blocks = [block for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for block in stage]
    for block in blocks[::2]:
        last = block.bn2
        last.weight.data.zero_()
        last.bias.data.zero_()
    resnet = parity.check_close("resnet without even blocks", result["logits"], model(x), 1e-10)
    return f"largest difference {max(vit, resnet):.2g}"


if __name__ == "__main__":
    parity.main([test_logits_and_features_equal_timm, test_published_models_equal_timm,
                 test_weights_of_another_image_size_are_resampled_as_timm_does, test_names_are_timms, test_swapping_two_blocks_is_noticed,
                 test_timm_loads_the_folder_that_our_config_describes, test_named_submodels_leave_blocks_out])
