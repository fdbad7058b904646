"""cosub's loss and every gradient on a recorded microbatch against an independent computation with timm's modules.

The reference takes timm's submodules one by one, runs each branch on the kept rows (index_select, index_add) and sums
the four terms of the loss as design and paper write them.
"""
import itertools

import families
import parity
import torch
import torch.nn.functional as F

IMAGES = 6
LIMITS = {False: 1e-5, True: 1e-9}


# The reference: rows is None (all) or (rows, scale); x is doubled where the first branch with rows comes.

class Rows:
    def __init__(self, kept, share_stem):
        self.kept = kept
        self.shared = share_stem and any(rows is not None for rows in kept)

    def start(self, images):
        return images if self.shared else torch.cat([images, images])

    def add(self, index, x, shortcut, branch):
        if self.kept[index] is None:
            return shortcut + branch(x)
        if x.shape[0] == IMAGES:
            x, shortcut = torch.cat([x, x]), torch.cat([shortcut, shortcut])
        rows, scale = self.kept[index]
        if len(rows) == 0:
            return shortcut
        return shortcut.index_add(0, rows, branch(x.index_select(0, rows)) * scale)

    def finish(self, x):
        return torch.cat([x, x]) if x.shape[0] == IMAGES else x


class MaskedRows(Rows):
    """The branch runs on all rows and is multiplied by 0 on the dropped ones, as public code does it."""

    def add(self, index, x, shortcut, branch):
        if self.kept[index] is None:
            return shortcut + branch(x)
        if x.shape[0] == IMAGES:
            x, shortcut = torch.cat([x, x]), torch.cat([shortcut, shortcut])
        rows, scale = self.kept[index]
        mask = torch.zeros(len(x), dtype=x.dtype).index_fill(0, rows, scale)
        return shortcut + branch(x) * mask.reshape(-1, *[1] * (x.ndim - 1))


def label_loss(logits, targets, kind, reduction):
    if kind == "ce":
        return torch.mean(torch.sum(-targets * F.log_softmax(logits, dim=-1), dim=-1))
    per_element = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return per_element.mean() if reduction == "mean" else per_element.sum(dim=1).mean()


def cosub_loss(z1, z2, y, kind, lam, reduction="mean"):
    p = torch.sigmoid if kind == "bce" else (lambda z: torch.softmax(z, dim=-1))
    labels = label_loss(z1, y, kind, reduction) + label_loss(z2, y, kind, reduction)
    others = (label_loss(z1, p(z2).detach(), kind, reduction) + label_loss(z2, p(z1).detach(), kind, reduction))
    return (1 - lam) / 2 * labels + lam / 2 * others


# Recorded microbatches.

def draw(num_branches, depth, generator, drop_rate=0.4):
    """The first branch keeps all rows, so that there is a stem to share."""
    kept = [None]
    for _ in range(num_branches - 1):
        halves = []
        for half in range(2):
            if depth == "fixed":
                count = max(1, int((1 - drop_rate) * IMAGES + 0.5))
                rows = torch.randperm(IMAGES, generator=generator)[:count].sort().values
                scale = IMAGES / count
            else:
                rows = (torch.rand(IMAGES, generator=generator) >= drop_rate).nonzero()[:, 0]
                scale = 1 / (1 - drop_rate)
            halves.append(rows + half * IMAGES)
        kept.append((torch.cat(halves), scale))
    return kept


def recorded(kept):
    tensors = {}
    for i, rows in enumerate(kept):
        if rows is not None:
            tensors[f"kept.{i}"] = rows[0]
            tensors[f"scale.{i}"] = torch.tensor(rows[1], dtype=torch.float64)
    return tensors


class Case:
    """A model, images and targets (float32 values), and the reference's and our results on them."""

    def __init__(self, key, double, seed=3):
        self.key, self.double = key, double
        self.model, self.arguments, kwargs = parity.make(key, seed)
        self.weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        generator = torch.Generator().manual_seed(seed)
        size = kwargs.get("img_size", 48)
        self.x = torch.randn(IMAGES, kwargs["in_chans"], size, size, generator=generator)
        self.y = torch.rand(IMAGES, kwargs["num_classes"], generator=generator)
        self.y /= self.y.sum(dim=1, keepdim=True)
        self.num_branches = families.num_branches(self.model, self.x)
        self.model.double()  # the reference computes in float64, also for our float32
        if double:
            self.arguments = [*self.arguments, "--float64"]

    def reference(self, kept, kind, lam, share_stem=True, reduction="mean", rows=Rows):
        self.model.load_state_dict(self.weights)
        self.model.train().zero_grad()
        statistics, hooks = {}, []

        def record(name):
            def hook(module, inputs):
                values = inputs[0].detach().transpose(0, 1).flatten(1)
                statistics[f"bn.{name}.mean"] = values.mean(dim=1)
                statistics[f"bn.{name}.var"] = values.var(dim=1)
            return hook

        for name, module in self.model.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                statistics[f"bn.{name}.mean"] = self.weights[f"{name}.running_mean"]  # where no row is left
                statistics[f"bn.{name}.var"] = self.weights[f"{name}.running_var"]
                hooks.append(module.register_forward_pre_hook(record(name)))
        logits = families.logits(self.model, self.x.double(), rows(kept, share_stem))
        loss = cosub_loss(logits[:IMAGES], logits[IMAGES:], self.y.double(), kind, lam, reduction)
        loss.backward()
        for hook in hooks:
            hook.remove()
        gradients = {f"grad.{name}": parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                     for name, parameter in self.model.named_parameters()}
        return {"logits": logits.detach(), "loss": loss.detach(), **gradients, **statistics}

    def ours(self, tool, kept, kind, lam, share_stem=True, *extra):
        arguments = [*self.arguments, "--loss", kind, "--lambda", str(lam), *extra]
        if not share_stem:
            arguments.append("--no-share-stem")
        return tool("step", arguments, self.weights, {"input": self.x, "target": self.y, **recorded(kept)})


def check_step(what, ours, theirs, limit):
    """Every tensor of the reference, and nothing else but the rows.

    Some gradients are zero (of the head's bias at lambda 1, where each half pulls as the other pushes): those must be
    small against all gradients together.
    """
    names = {name for name in ours if not name.startswith(("kept.", "scale."))}
    assert names == set(theirs), f"{what}: {sorted(names ^ set(theirs))} on one side only"
    total = torch.stack([theirs[name].norm() for name in theirs if name.startswith("grad.")]).norm().item()
    worst = 0.0
    for name, reference in theirs.items():
        if name.startswith("grad.") and reference.norm().item() < 1e-12 * total:
            found = ours[name].double().norm().item() / total
            assert found <= limit, f"{what}: {name} is {found:.3g} of all gradients; it should be zero"
        else:
            found = parity.check_close(f"{what}: {name}", ours[name], reference, limit)
        worst = max(worst, found)
    return worst


def combinations(double):
    """depth, loss, lambda, share_stem: in float64 every depth x loss x lambda, in float32 every pair of them."""
    for (d, depth), (k, kind), (l, lam) in itertools.product(
            enumerate(("fixed", "bernoulli")), enumerate(("bce", "ce")), enumerate((0.0, 0.5, 1.0))):
        if double or (d + k + l) % 2 == 0:
            yield depth, kind, lam, (k + l) % 2 == 0


def test_loss_and_gradients_equal_timms_modules(tool):
    worst, steps = {False: 0.0, True: 0.0}, 0
    for key, double in itertools.product(("deit3", "resnet_basic"), (False, True)):
        case = Case(key, double)
        for seed, (depth, kind, lam, share) in enumerate(combinations(double)):
            kept = draw(case.num_branches, depth, torch.Generator().manual_seed(seed))
            ours = case.ours(tool, kept, kind, lam, share)
            theirs = case.reference(kept, kind, lam, share)
            what = f"{key} {depth} {kind} lambda {lam} share_stem {share} {'float64' if double else 'float32'}"
            worst[double] = max(worst[double], check_step(what, ours, theirs, LIMITS[double]))
            steps += 1
    return f"{steps} steps, largest difference {worst[False]:.2g} (float32), {worst[True]:.2g} (float64)"


def test_bottlenecks_and_sum_over_classes(tool):
    worst = 0.0
    for key, reduction in (("resnet_bottleneck", "mean"), ("vit", "sum"), ("resnet_tiered", "sum")):
        case = Case(key, True)
        kept = draw(case.num_branches, "fixed", torch.Generator().manual_seed(0))
        ours = case.ours(tool, kept, "bce", 0.3, True, "--bce-reduction", reduction)
        worst = max(worst, check_step(key, ours, case.reference(kept, "bce", 0.3, True, reduction), 1e-9))
    return f"largest difference {worst:.2g}"


# float32 limit per tensor: what the issue of many additions costs, BatchNorm's backward most.
FAMILY_MODELS = ("regnety", "regnety_grey", "pit", "pit_grey", "xcit", "xcit_p16", "swin", "swin_exact", "convnext",
                 "convnext_conv")


def test_every_family_equals_timms_modules(tool):
    worst = {False: 0.0, True: 0.0}
    for seed, (key, double) in enumerate(itertools.product(FAMILY_MODELS, (False, True))):
        case = Case(key, double)
        kind, depth = ("bce", "ce")[seed // 2 % 2], ("fixed", "bernoulli")[seed // 4 % 2]
        kept = draw(case.num_branches, depth, torch.Generator().manual_seed(seed // 2))
        ours, theirs = case.ours(tool, kept, kind, 0.5), case.reference(kept, kind, 0.5)
        what = f"{key} {depth} {kind} {'float64' if double else 'float32'}"
        worst[double] = max(worst[double], check_step(what, ours, theirs, {False: 1e-4, True: 1e-8}[double]))
    return f"largest difference {worst[False]:.2g} (float32), {worst[True]:.2g} (float64)"


def test_masking_agrees_where_no_branch_has_batch_norm(tool):
    worst = 0.0
    for key in ("deit3", "pit", "swin", "convnext"):
        case = Case(key, True)
        kept = draw(case.num_branches, "fixed", torch.Generator().manual_seed(2))
        masked = case.reference(kept, "bce", 0.5, rows=MaskedRows)
        worst = max(worst, check_step(f"{key} masked", case.ours(tool, kept, "bce", 0.5), masked, 1e-8))
    return f"largest difference {worst:.2g}"


def test_our_own_draws_replay(tool):
    """Rows drawn by the tool have the right count in each half, and the reference on them agrees."""
    case = Case("deit3", True)
    ours = case.ours(tool, [None] * case.num_branches, "bce", 0.5, True, "--drop-rate", "0.5", "--stream", "7")
    kept = [(ours[f"kept.{i}"], ours[f"scale.{i}"].item()) for i in range(case.num_branches)]
    differing = 0
    for rows, scale in kept:
        first, second = rows[rows < IMAGES], rows[rows >= IMAGES] - IMAGES
        assert len(first.unique()) == len(second.unique()) == IMAGES // 2 and scale == 2.0
        differing += not torch.equal(first, second)
    assert differing > 0, "both halves keep the same rows in every branch"
    return f"difference {check_step('replay', ours, case.reference(kept, 'bce', 0.5), 1e-9):.2g}"


def test_swapping_the_halves_changes_nothing(tool):
    worst = 0.0
    for key, kind in (("deit3", "bce"), ("resnet_basic", "ce")):
        case = Case(key, True)
        kept = draw(case.num_branches, "fixed", torch.Generator().manual_seed(5))
        swapped = [None if rows is None else ((rows[0] + IMAGES) % (2 * IMAGES), rows[1]) for rows in kept]
        one, other = case.ours(tool, kept, kind, 0.5), case.ours(tool, swapped, kind, 0.5)
        assert parity.difference(one["logits"], other["logits"]) > 1e-3, "the halves do not differ: nothing is tested"
        other["logits"] = other["logits"].roll(IMAGES, 0)
        worst = max(worst, check_step(f"{key} swapped", {name: one[name] for name in one if "kept" not in name},
                                      {name: other[name] for name in other if not name.startswith(("kept", "scale"))},
                                      1e-9))
    return f"largest difference {worst:.2g}"


def test_neighbouring_rows_are_not_the_two_halves(tool):
    """The mistake once made in public code: rows 2i and 2i+1 (two different images) taken as one image's two views."""
    for kind in ("bce", "ce"):
        case = Case("deit3", True)
        kept = draw(case.num_branches, "fixed", torch.Generator().manual_seed(6))
        ours = case.ours(tool, kept, kind, 0.5)
        z, y = ours["logits"], case.y.double()
        parity.check_close("halves", ours["loss"], cosub_loss(z[:IMAGES], z[IMAGES:], y, kind, 0.5), 1e-9)
        mistaken = cosub_loss(z[0::2], z[1::2], y, kind, 0.5)
        found = parity.difference(ours["loss"], mistaken)
        assert found > 1e-3, f"{kind}: taking neighbours as halves changes the loss by only {found:.3g}"
    return "told apart"


if __name__ == "__main__":
    parity.main([test_loss_and_gradients_equal_timms_modules, test_bottlenecks_and_sum_over_classes,
                 test_every_family_equals_timms_modules, test_masking_agrees_where_no_branch_has_batch_norm,
                 test_our_own_draws_replay, test_swapping_the_halves_changes_nothing,
                 test_neighbouring_rows_are_not_the_two_halves])
