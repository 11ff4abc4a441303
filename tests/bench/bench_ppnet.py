"""A training step of the ranker against its matrix products and against PPNet as FuxiCTR trains it."""

from functools import partial

import numpy as np
import torch
from floors import flops_of, gemm, gemms
from hydra.utils import instantiate
from shipped import ITEMS, USERS, config
from torch import nn
from torch.nn import functional as F

from adasid_exp.types import ImpressionBatch
from conftest import AtLeast, AtMost

BATCH, STEPS = 4096, 20


class GateNu(nn.Module):
    """One gate, as FuxiCTR writes it."""

    def __init__(self, inputs, hidden, outputs, dropout):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, outputs), nn.Sigmoid()
        )

    def forward(self, inputs):
        return self.gate(inputs) * 2


class FuxiCtrPpnet(nn.Module):
    """reczoo/FuxiCTR's PPNet on our features: a table a field, a gate unit a layer, torch's dropout."""

    def __init__(self, *, hidden, gate_hidden, dropout):
        super().__init__()
        self.user, self.item = nn.Embedding(USERS + 1, 16), nn.Embedding(ITEMS + 1, 64, padding_idx=0)
        self.length = nn.Embedding(21, 16)
        self.gate_user, self.gate_item = nn.Embedding(USERS + 1, 16), nn.Embedding(ITEMS + 1, 16)
        widths, inputs = [160, *hidden], 160 + 32
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout))
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.gates = nn.ModuleList(GateNu(inputs, gate_hidden, width, dropout) for width in hidden)
        self.output = nn.Linear(hidden[-1], 1)

    def forward(self, batch):
        history = batch.history * (torch.arange(STEPS) < batch.length[:, None])
        pooled = self.item(history).sum(1) / ((history != 0).sum(1, keepdim=True) + 1e-12)
        features = torch.cat([self.user(batch.user), self.item(batch.item), pooled, self.length(batch.length)], 1)
        prior = torch.cat([self.gate_user(batch.user), self.gate_item(batch.item)], 1)
        known = torch.cat([features.detach(), prior], 1)
        hidden = features
        for layer, gate in zip(self.layers, self.gates, strict=True):
            hidden = layer(hidden) * gate(known)
        return torch.sigmoid(self.output(hidden)).squeeze(1)

    def loss(self, batch, embedding_l2):
        loss = F.binary_cross_entropy(self(batch), batch.label)
        for name, weight in self.named_parameters():
            if "layers" not in name and "gates." not in name and "output" not in name:
                loss = loss + embedding_l2 / 2 * torch.norm(weight, 2) ** 2
        return loss


def impressions():
    """A batch at Beauty's size: popular items are frequent, histories are as short as Beauty's (6 of 20)."""
    random = np.random.default_rng(0)
    length = np.minimum(random.geometric(1 / 7, BATCH) - 1, STEPS)
    item = np.minimum(random.geometric(1e-3, (BATCH, STEPS + 1)), ITEMS) - 1
    item = torch.from_numpy(item.astype(np.int64))
    return ImpressionBatch(
        user=torch.from_numpy(random.integers(0, USERS, BATCH)),
        item=item[:, 0],
        history=item[:, 1:] * torch.from_numpy(np.arange(STEPS) < length[:, None]),
        length=torch.from_numpy(length.astype(np.int64)),
        label=torch.from_numpy((random.random(BATCH) < 0.8).astype(np.float32)),
    )


def our_step(batch):
    torch.manual_seed(0)
    node = config("+ranker=ppnet", "+representation=item_id")
    ours = {key: value for key, value in node.ranker.items() if key not in ("name", "inputs", "fit")}
    parts = {key: value for key, value in node.representation.items() if key not in ("name", "inputs")}
    model = instantiate(ours, users=USERS, representation=instantiate(parts, items=ITEMS))
    module = instantiate(node.ranker.fit.module, model=model, total_steps=10_000)
    schedule = module.configure_optimizers()
    return partial(_step, module, schedule["optimizer"], schedule["lr_scheduler"]["scheduler"], batch)


def _step(module, optimizer, scheduler, batch):
    loss = module.training_step(batch, 0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()


def fuxictr_step(batch):
    torch.manual_seed(0)
    model = FuxiCtrPpnet(hidden=[256, 128, 64], gate_hidden=64, dropout=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        loss = model.loss(batch, 1e-3)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        return loss.item()

    return step


def test_ppnet_step_against_fuxictr(compare):
    batch = impressions()
    compare(
        "PPNet training step",
        AtLeast(goal=1.3),
        ours=our_step(batch),
        reference=fuxictr_step(batch),
        against="FuxiCTR's PPNet on the same features",
        note=f"batch {BATCH}",
        rounds=9,
        warmup=2,
    )


def test_ppnet_step_against_its_matrix_products(compare):
    step = our_step(impressions())
    flops = flops_of(step)
    compare(
        "PPNet training step",
        AtMost(goal=2.4),
        ours=step,
        reference=gemm(),
        reference_units=1 / gemms(flops),
        against="its matrix products at the machine's best rate",
        note=f"{flops / 1e9:.2f} GFLOP a step",
        rounds=9,
        warmup=2,
    )
