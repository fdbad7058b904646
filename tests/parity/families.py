"""timm's models with their residual branches run row by row: logits(model, images, rows) for each family.

`rows.start(images)` gives the rows of the stem, `rows.add(index, x, shortcut, branch)` adds branch number `index`. The
modules are timm's own; only the sums are taken apart here.
"""
import torch
import torch.nn.functional as F


def vit_logits(model, images, rows):
    x = model._pos_embed(model.patch_embed(rows.start(images)))
    for i, block in enumerate(model.blocks):
        x = rows.add(2 * i, x, x, lambda r, b=block: b.ls1(b.attn(b.norm1(r))))
        x = rows.add(2 * i + 1, x, x, lambda r, b=block: b.ls2(b.mlp(b.norm2(r))))
    return model.forward_head(model.norm(x))


def resnet_branch(block, x):
    x = block.act1(block.bn1(block.conv1(x)))
    x = block.bn2(block.conv2(x))
    return block.bn3(block.conv3(block.act2(x))) if hasattr(block, "conv3") else x


def resnet_logits(model, images, rows):
    x = model.maxpool(model.act1(model.bn1(model.conv1(rows.start(images)))))
    blocks = [block for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for block in stage]
    for i, block in enumerate(blocks):
        shortcut = x if block.downsample is None else block.downsample(x)
        x = F.relu(rows.add(i, x, shortcut, lambda r, b=block: resnet_branch(b, r)))
    return model.forward_head(x)


def regnet_logits(model, images, rows):
    x = model.stem(rows.start(images))
    blocks = [block for stage in (model.s1, model.s2, model.s3, model.s4) for block in stage.children()]
    for i, block in enumerate(blocks):
        x = F.relu(rows.add(i, x, block.downsample(x), lambda r, b=block: b.conv3(b.se(b.conv2(b.conv1(r))))))
    return model.forward_head(x)


def pit_logits(model, images, rows):
    grid = model.patch_embed(rows.start(images)) + model.pos_embed
    token = model.cls_token.expand(len(grid), -1, -1)
    index = 0
    for stage in model.transformers:
        if stage.pool is not None:
            grid, token = stage.pool(grid, token)
        height, width = grid.shape[2:]
        x = torch.cat([token, grid.flatten(2).transpose(1, 2)], dim=1)
        for block in stage.blocks:
            x = rows.add(index, x, x, lambda r, b=block: b.attn(b.norm1(r)))
            x = rows.add(index + 1, x, x, lambda r, b=block: b.mlp(b.norm2(r)))
            index += 2
        token, grid = x[:, :1], x[:, 1:].transpose(1, 2).reshape(len(x), -1, height, width)
    return model.forward_head(model.norm(token))


def xcit_logits(model, images, rows):
    x, (height, width) = model.patch_embed(rows.start(images))
    x = x + model.pos_embed(1, height, width).reshape(1, -1, x.shape[1]).permute(0, 2, 1)
    for i, block in enumerate(model.blocks):
        x = rows.add(3 * i, x, x, lambda r, b=block: b.gamma1 * b.attn(b.norm1(r)))
        x = rows.add(3 * i + 1, x, x, lambda r, b=block: b.gamma3 * b.local_mp(b.norm3(r), height, width))
        x = rows.add(3 * i + 2, x, x, lambda r, b=block: b.gamma2 * b.mlp(b.norm2(r)))
    return model.forward_head(model.norm(model.forward_cls(rows.finish(x))))  # class attention never drops


def swin_logits(model, images, rows):
    x = model.patch_embed(rows.start(images))
    index = 0
    for layer in model.layers:
        x = layer.downsample(x)
        for block in layer.blocks:
            x = rows.add(index, x, x, lambda r, b=block: b._attn(b.norm1(r)))
            x = rows.add(index + 1, x, x, lambda r, b=block: b.mlp(b.norm2(r)))
            index += 2
    return model.forward_head(model.norm(x))


def convnext_branch(block, x):
    x = block.conv_dw(x)
    if block.use_conv_mlp:
        x = block.mlp(block.norm(x))
    else:
        x = block.mlp(block.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    return x * block.gamma.reshape(1, -1, 1, 1)


def convnext_logits(model, images, rows):
    x = model.stem(rows.start(images))
    index = 0
    for stage in model.stages:
        x = stage.downsample(x)
        for block in stage.blocks:
            x = rows.add(index, x, x, lambda r, b=block: convnext_branch(b, r))
            index += 1
    return model.forward_head(x)


FAMILIES = {"VisionTransformer": vit_logits, "ResNet": resnet_logits, "RegNet": regnet_logits,
            "PoolingVisionTransformer": pit_logits, "Xcit": xcit_logits, "SwinTransformer": swin_logits,
            "ConvNeXt": convnext_logits}


def logits(model, images, rows):
    return FAMILIES[type(model).__name__](model, images, rows)


class Counter:
    """Stands for the rows and counts the branches."""

    def __init__(self):
        self.branches = 0

    def start(self, images):
        return images

    def add(self, index, x, shortcut, branch):
        self.branches = max(self.branches, index + 1)
        return shortcut + branch(x)

    def finish(self, x):
        return x


def num_branches(model, images):
    """Branches that can drop."""
    counter = Counter()
    with torch.no_grad():
        logits(model.eval(), images, counter)
    return counter.branches
