"""Updates of the weights against timm's and torch's optimizers: from recorded gradients, and end to end."""
import dataclasses
import itertools
from collections.abc import Callable

import families
import parity
import timm.optim
import torch
from step_test import IMAGES, Case, Rows, cosub_loss, draw

STEPS = 20


@dataclasses.dataclass
class Rule:
    arguments: list  # ours
    optimizer: Callable  # the reference's constructor
    weight_decay: float
    clip_norm: float = 0.0  # before the update, as torch.nn.utils.clip_grad_norm_; 0: not

    def our_arguments(self):
        return [*self.arguments, "--weight-decay", str(self.weight_decay), "--clip-norm", str(self.clip_norm)]

    def clip(self, model):
        if self.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm)


def lamb(max_grad_norm):
    return lambda groups: timm.optim.Lamb(groups, lr=3e-3, eps=1e-6, max_grad_norm=max_grad_norm)


def adamw(groups):
    return torch.optim.AdamW(groups, lr=1e-3, eps=1e-8)


def sgd(**options):
    return lambda groups: torch.optim.SGD(groups, lr=0.05, **options)


LAMB = ["--optimizer", "lamb", "--lr", "3e-3", "--eps", "1e-6"]
ADAMW = ["--optimizer", "adamw", "--lr", "1e-3", "--eps", "1e-8"]
SGD = ["--optimizer", "sgd", "--lr", "0.05"]
RULES = {
    "lamb": Rule(LAMB, lamb(1.0), 0.05),
    "lamb without its clipping": Rule([*LAMB, "--max-grad-norm", "0"], lamb(None), 0.05),
    "adamw": Rule(ADAMW, adamw, 0.05),
    "adamw clipped": Rule(ADAMW, adamw, 0.05, clip_norm=0.7),
    "sgd": Rule([*SGD, "--momentum", "0.9"], sgd(momentum=0.9, nesterov=True), 0.01),
    "sgd clipped": Rule([*SGD, "--momentum", "0.9"], sgd(momentum=0.9, nesterov=True), 0.01, clip_norm=0.7),
    "sgd without Nesterov": Rule([*SGD, "--momentum", "0.9", "--no-nesterov"], sgd(momentum=0.9), 0.01),
    "sgd without momentum": Rule([*SGD, "--momentum", "0", "--no-nesterov"], sgd(), 0.01),
}


def reference(model, rule, layer_decay):
    """timm's parameter groups, with the scaled rate written out as its schedulers do."""
    excluded = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    if layer_decay == 1.0:
        groups = timm.optim.param_groups_weight_decay(model, rule.weight_decay, no_weight_decay_list=excluded)
        return rule.optimizer(groups)
    groups = timm.optim.param_groups_layer_decay(model, weight_decay=rule.weight_decay, layer_decay=layer_decay,
                                                 no_weight_decay_list=excluded)
    optimizer = rule.optimizer(groups)
    for group in optimizer.param_groups:
        group["lr"] *= group["lr_scale"]
    return optimizer


def our_arguments(case, rule, layer_decay):
    return [*case.arguments, *rule.our_arguments(), "--layer-decay", str(layer_decay), "--steps", str(STEPS)]


def change(weights, before):
    return torch.cat([(weights[name].double() - before[name].double()).flatten() for name in sorted(weights)])


def test_recorded_gradients(tool):
    """float32, per tensor: what differs after 20 updates over what the weights are."""
    worst = 0.0
    for key, (title, rule), layer_decay in itertools.product(("deit3", "resnet_basic"), RULES.items(), (1.0, 0.75)):
        case = Case(key, False)
        model = case.model.float()
        generator = torch.Generator().manual_seed(1)
        tensors = {"input": case.x}
        for step, (name, parameter) in itertools.product(range(STEPS), model.named_parameters()):
            scale = 10 ** (torch.rand((), generator=generator).item() * 3 - 3)
            tensors[f"grad.{step}.{name}"] = torch.randn(parameter.shape, generator=generator) * scale
        ours = tool("train", our_arguments(case, rule, layer_decay), case.weights, tensors)
        optimizer = reference(model, rule, layer_decay)
        for step in range(STEPS):
            for name, parameter in model.named_parameters():
                parameter.grad = tensors[f"grad.{step}.{name}"].clone()
            rule.clip(model)
            optimizer.step()
        for name, parameter in model.named_parameters():
            moved = parity.difference(case.weights[name], parameter.detach())
            assert moved > 1e-5, f"{key} {title}: {name} did not move: nothing is tested"
            what = f"{key} {title}, layer_decay {layer_decay}: {name}"
            worst = max(worst, parity.check_close(what, ours[name], parameter.detach(), 1e-6))
    return f"largest difference {worst:.2g}"


def test_twenty_steps_end_to_end_in_float64(tool):
    """A small ViT, cosub's loss, recorded rows: forward, backward and update, 20 times."""
    worst = 0.0
    for title, layer_decay in itertools.product(("lamb", "adamw", "sgd", "sgd clipped"), (1.0, 0.75)):
        rule = RULES[title]
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
        assert moved > 1e-3, f"{title}: the weights moved by {moved:.2g} only: nothing is tested"
        for name, reference_value in theirs.items():
            worst = max(worst, parity.check_close(f"{title} {layer_decay}: {name}", ours[name], reference_value, 1e-8))
    return f"largest difference {worst:.2g}"


def train(case, rule, layer_decay, kept):
    model = case.model
    model.load_state_dict(case.weights)
    optimizer = reference(model, rule, layer_decay)
    for rows in kept:
        optimizer.zero_grad()
        logits = families.logits(model.train(), case.x.double(), Rows(rows, True))
        cosub_loss(logits[:IMAGES], logits[IMAGES:], case.y.double(), "bce", 0.5).backward()
        rule.clip(model)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


if __name__ == "__main__":
    parity.main([test_recorded_gradients, test_twenty_steps_end_to_end_in_float64])
