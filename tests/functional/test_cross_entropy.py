"""The chunked full softmax against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from adasid_exp.functional.cross_entropy import full_cross_entropy


@pytest.mark.parametrize("chunk", [1, 7, 32, 100])
def test_value_and_gradients_equal_torch(chunk):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(32, 8, generator=generator, dtype=torch.float32).mul_(5).requires_grad_()
    table = torch.randn(50, 8, generator=generator, dtype=torch.float32).mul_(5).requires_grad_()
    target = torch.randint(0, 50, (32,), generator=generator)
    loss = full_cross_entropy(states, table, target, chunk)
    wanted = F.cross_entropy(states @ table.t(), target)
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
    ours = torch.autograd.grad(3 * loss, [states, table])
    theirs = torch.autograd.grad(3 * wanted, [states, table])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_hopeless_target_has_a_finite_loss():
    """By hand: logits 200 and -200, target the second: the loss is 400 although its share underflows to 0."""
    loss = full_cross_entropy(torch.tensor([[200.0]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([1]), 4)
    assert loss.item() == pytest.approx(400.0)
