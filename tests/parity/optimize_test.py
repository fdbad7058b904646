"""Updates of the weights against timm's and torch's optimizers: from recorded gradients, and end to end."""
import itertools

import families
import parity
import timm.optim
import torch
from step_test import IMAGES, Case, Rows, cosub_loss, draw

STEPS = 20
# name -> (our arguments, the reference's constructor)
RULES = {
    "lamb": (["--lr", "3e-3", "--weight-decay", "0.05", "--eps", "1e-6"],
             lambda groups: timm.optim.Lamb(groups, lr=3e-3, eps=1e-6, max_grad_norm=1.0)),
    "adamw": (["--lr", "1e-3", "--weight-decay", "0.05", "--eps", "1e-8"],
              lambda groups: torch.optim.AdamW(groups, lr=1e-3, eps=1e-8)),
    "sgd": (["--lr", "0.05", "--weight-decay", "0.01", "--momentum", "0.9"],
            lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)),
    "sgd plain": (["--lr", "0.05", "--weight-decay", "0.01", "--momentum", "0.9", "--no-nesterov"],
                  lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9)),
}


def reference(model, rule, weight_decay, layer_decay):
    """timm's parameter groups, with the scaled rate written out as its schedulers do."""
    excluded = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    if layer_decay == 1.0:
        groups = timm.optim.param_groups_weight_decay(model, weight_decay,
                                                      no_weight_decay_list=excluded)
        return RULES[rule][1](groups)
    groups = timm.optim.param_groups_layer_decay(model, weight_decay=weight_decay, layer_decay=layer_decay,
                                                 no_weight_decay_list=excluded)
    optimizer = RULES[rule][1](groups)
    for group in optimizer.param_groups:
        group["lr"] *= group["lr_scale"]
    return optimizer


def our_arguments(case, rule, layer_decay):
    return [*case.arguments, *RULES[rule][0], "--optimizer", rule.split()[0], "--layer-decay", str(layer_decay),
            "--steps", str(STEPS)]


def weight_decay_of(rule):
    return float(RULES[rule][0][3])


def change(weights, before):
    return torch.cat([(weights[name].double() - before[name].double()).flatten() for name in sorted(weights)])


def test_recorded_gradients(tool):
    """float32, per tensor: what differs after 20 updates over what the weights are."""
    worst = 0.0
    for key, rule, layer_decay in itertools.product(("deit3", "resnet_basic"), RULES, (1.0, 0.75)):
        case = Case(key, False)
        model = case.model.float()
        generator = torch.Generator().manual_seed(1)
        tensors = {"input": case.x}
        for step, (name, parameter) in itertools.product(range(STEPS), model.named_parameters()):
            scale = 10 ** (torch.rand((), generator=generator).item() * 3 - 3)
            tensors[f"grad.{step}.{name}"] = torch.randn(parameter.shape, generator=generator) * scale
        ours = tool("train", our_arguments(case, rule, layer_decay), case.weights, tensors)
        optimizer = reference(model, rule, weight_decay_of(rule), layer_decay)
        for step in range(STEPS):
            for name, parameter in model.named_parameters():
                parameter.grad = tensors[f"grad.{step}.{name}"].clone()
            optimizer.step()
        for name, parameter in model.named_parameters():
            moved = parity.difference(case.weights[name], parameter.detach())
            assert moved > 1e-5, f"{key} {rule}: {name} did not move: nothing is tested"
            what = f"{key} {rule} layer_decay {layer_decay}: {name}"
            worst = max(worst, parity.check_close(what, ours[name], parameter.detach(), 1e-6))
    return f"largest difference {worst:.2g}"


def test_twenty_steps_end_to_end_in_float64(tool):
    """A small ViT, cosub's loss, recorded rows: forward, backward and update, 20 times."""
    worst = 0.0
    for rule, layer_decay in itertools.product(("lamb", "adamw", "sgd"), (1.0, 0.75)):
        case = Case("deit3", True)
        kept = [draw(case.num_branches, "fixed", torch.Generator().manual_seed(step)) for step in range(STEPS)]
        tensors = {"input": case.x, "target": case.y}
        for (step, rows), branch in itertools.product(enumerate(kept), range(case.num_branches)):
            if rows[branch] is not None:
                tensors[f"kept.{step}.{branch}"] = rows[branch][0]
                tensors[f"scale.{step}.{branch}"] = torch.tensor(rows[branch][1], dtype=torch.float64)
        ours = tool("train", our_arguments(case, rule, layer_decay), case.weights, tensors)
        theirs = train(case, rule, layer_decay, kept)
        moved = change(theirs, case.weights).norm() / change(theirs, {n: 0 * t for n, t in theirs.items()}).norm()
        assert moved > 1e-3, f"{rule}: the weights moved by {moved:.2g} only: nothing is tested"
        for name, reference_value in theirs.items():
            worst = max(worst, parity.check_close(f"{rule} {layer_decay}: {name}", ours[name], reference_value, 1e-8))
    return f"largest difference {worst:.2g}"


def train(case, rule, layer_decay, kept):
    model = case.model
    model.load_state_dict(case.weights)
    optimizer = reference(model, rule, weight_decay_of(rule), layer_decay)
    for rows in kept:
        optimizer.zero_grad()
        logits = families.logits(model.train(), case.x.double(), Rows(rows, True))
        cosub_loss(logits[:IMAGES], logits[IMAGES:], case.y.double(), "bce", 0.5).backward()
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


if __name__ == "__main__":
    parity.main([test_recorded_gradients, test_twenty_steps_end_to_end_in_float64])
