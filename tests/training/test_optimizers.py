"""Parameter groups and the learning-rate curve."""

import math

import pytest
import torch
from torch import nn

from adasid_exp.training.optimizers import adamw, warmup_cosine


class Gate(nn.Linear):
    no_weight_decay = True


def test_only_plain_matrices_are_decayed():
    net = nn.ModuleDict({"linear": nn.Linear(2, 3), "table": nn.Embedding(4, 2), "gate": Gate(2, 2)})
    net["frozen"] = nn.Linear(2, 2).requires_grad_(False)
    optimizer = adamw(net, learning_rate=0.1, weight_decay=0.3)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    named = {name: decay.get(id(p)) for name, p in net.named_parameters()}
    assert named == {
        "linear.weight": 0.3,
        "linear.bias": 0.0,
        "table.weight": 0.0,
        "gate.weight": 0.0,
        "gate.bias": 0.0,
        "frozen.weight": None,
        "frozen.bias": None,
    }


def test_a_step_is_that_of_plain_adamw():
    # Reference: torch's unfused AdamW.
    ours, theirs = nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False)
    theirs.load_state_dict(ours.state_dict())
    pair = [adamw(ours, learning_rate=0.1, weight_decay=0.2)]
    pair.append(torch.optim.AdamW(theirs.parameters(), lr=0.1, weight_decay=0.2, fused=False))
    for net, optimizer in zip((ours, theirs), pair, strict=True):
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(1, 5)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


@pytest.mark.parametrize(("warmup", "rise"), [(4, 4), (500, 10), (0, 0)])
def test_curve(warmup, rise):
    # By hand: a linear rise (at most a tenth of 100 steps), the peak 1, the middle, the floor.
    net = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    scheduler = warmup_cosine(optimizer, warmup_steps=warmup, total_steps=100, floor=0.1)
    rates = []
    for _ in range(120):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:rise] == pytest.approx([(k + 1) / (rise + 1) for k in range(rise)])
    assert rates[rise] == pytest.approx(1.0)
    assert rates[rise + (100 - rise) // 4] == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2, abs=0.01)
    assert rates[rise + (100 - rise) // 2] == pytest.approx(0.55)
    assert rates[100:] == pytest.approx([0.1] * 20)
