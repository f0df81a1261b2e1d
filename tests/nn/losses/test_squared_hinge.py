import torch

from ziggurat.nn.losses.squared_hinge import squared_hinge


def test_formula_against_a_naive_loop():
    torch.manual_seed(0)
    scores, labels = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 3, 2, 1, 1])
    for margin in (1.0, 0.25):
        want = [
            sum(max(0.0, margin - float(s[y] - s[k])) ** 2 for k in range(4) if k != int(y))
            for s, y in zip(scores, labels, strict=True)
        ]
        torch.testing.assert_close(squared_hinge(scores, labels, margin), torch.tensor(want, dtype=torch.float64))


def test_gradient_is_right_and_zero_beyond_the_margin():
    scores, labels = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2, 0])
    assert torch.autograd.gradcheck(lambda s: squared_hinge(s, labels), scores)
    sure = (5 * torch.eye(3)).requires_grad_()
    loss = squared_hinge(sure, torch.arange(3))
    assert torch.equal(loss, torch.zeros(3))
    assert not torch.autograd.grad(loss.sum(), sure)[0].any()
